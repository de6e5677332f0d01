"""The launcher of `--launcher ray`: a home for agents, a placer in the cluster, and incarnations of
groups on nodes. Made before anything else is started, so that a missing cluster costs nothing.
"""

import importlib.util
import logging
import re
import socket
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from backend.config.errors import ModelError
from gateway.layout import GroupPlace
from gateway.nodes.home import Home
from gateway.nodes.model_files import model_digest
from gateway.nodes.ray_placer import RayPlacer
from gateway.nodes.remote_incarnation import RemoteIncarnation
from gateway.nodes.remote_launcher import RemoteLauncher, RemoteModel
from gateway.nodes.spanned_incarnation import SpannedIncarnation
from gateway.settings import Settings
from gateway.supervision.incarnation import IncarnationOwner
from gateway.supervision.listening import GroupListening

logger = logging.getLogger(__name__)

# The oldest that was seen to place two groups, to lose one with its raylet and to place it again
# (2026-11-29, as were 2.53.0 and 2.55.1). 2.60 is what all tests run.
LEAST_RAY = (2, 40)


class RayLauncher:
    """Owns the home of agents and the placer."""

    def __init__(self, settings: Settings, owner: str) -> None:
        """owner: whose groups these are in the cluster, the same after a restart."""
        server = settings.server
        self._settings = settings
        self._placer = RayPlacer(server.ray_address, owner, server.ray_resources)
        self._home: Home | None = None
        self._remote: RemoteLauncher | None = None
        self._listening = GroupListening(server)

    async def open(self, model_name: str) -> None:
        """Join the cluster, and listen where agents call.

        model_name: as the operator gave it. Raises ModelError.
        """
        await self._placer.join()
        server = self._settings.server
        listening = self._listening
        try:
            self._home = Home(
                self._placer.host, server.node_port, listening.certificate, listening.key
            )
        except OSError as error:
            raise ModelError(
                f"cannot listen for nodes on {self._placer.host} port {server.node_port}: "
                f"{error.strerror}\nchoose another with --node-port"
            ) from error
        digest = model_digest(Path(self._settings.engine.model))
        path = Path(model_name).expanduser()
        name = str(path.absolute()) if model_name and path.exists() else model_name
        model = RemoteModel(name, digest)
        self._remote = RemoteLauncher(self._home, self._placer, model, server, listening)
        logger.info("groups run on a Ray cluster of %s", self._placer.cluster)

    def launch(
        self, number: int, epoch: int, place: GroupPlace, owner: IncarnationOwner
    ) -> RemoteIncarnation | SpannedIncarnation:
        """Have one of group `number` placed and started, whose turns `owner` is told."""
        assert self._remote is not None
        return self._remote.launch(number, epoch, place, owner)

    def renew(self) -> tuple[str, str] | None:
        """See Launcher."""
        pair = self._listening.reread()
        if pair is not None and self._home is not None:
            self._home.renew(*pair)
        return pair

    def close(self) -> None:
        """Give back what is placed, and listen no more."""
        if self._home is not None:
            self._home.close()
            self._home = None
        self._placer.close()

    @property
    def num_refused(self) -> Mapping[str, int]:
        """Calls of agents that came to nothing, by handshake.Reason."""
        return self._home.num_refused if self._home is not None else {}

    @property
    def has_ended(self) -> bool:
        """Whether no process of its own is left."""
        return self._placer.has_ended

    def kill(self) -> None:
        """End what is left now."""
        self._placer.kill()


def check_ray() -> None:
    """Raise ModelError without Ray, or with one that is too old."""
    if importlib.util.find_spec("ray") is None:
        raise ModelError(
            "--launcher ray needs Ray; in Unisono's folder, on every node: pip install '.[ray]'"
        )
    version = metadata.version("ray")
    parts = re.match(r"(\d+)\.(\d+)", version)  # 2.60rc1 is a version, too
    if parts and (int(parts[1]), int(parts[2])) < LEAST_RAY:
        least = ".".join(map(str, LEAST_RAY))
        raise ModelError(
            f"Ray {version} is installed, and --launcher ray needs {least} or later\n"
            "in Unisono's folder, on every node: pip install '.[ray]'"
        )


def cluster_owner(port: int) -> str:
    """What this server's groups are found by in the cluster."""
    return f"{socket.gethostname()}:{port}"
