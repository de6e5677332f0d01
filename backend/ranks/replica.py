"""One incarnation of a group of ranks, wherever they run. Knows no torch.

local_replica.py has them as children of this process. It lives and dies as one.
"""

from collections.abc import Sequence
from typing import Protocol

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.placement.sharding import split_model
from backend.placement.stages import check_stages
from backend.settings import EngineSettings
from backend.wire.local.child import ProcessName
from backend.wire.local.heartbeat import Load
from backend.wire.offer import Offer


class Replica(Protocol):
    """What supervision needs of a group's ranks, whichever machine they are on."""

    @property
    def epoch(self) -> int:
        """A number that no other incarnation has."""

    @property
    def ranks(self) -> Sequence[ProcessName]:
        """One process each; the first is the lead."""

    @property
    def node(self) -> str:
        """Which machine they run on; "" for this one, or for none yet."""

    @property
    def load(self) -> Load | None:
        """What the group holds, as its lead has last told; None where that is not ours to know."""

    def connect(self, worker: int, epoch: int) -> Offer:
        """Connect the lead with a worker; return what the worker must be sent.

        Raises ControlClosed.
        """

    def detach(self, worker: int, epoch: int) -> None:
        """Tell the lead that a worker is gone. Raises ControlClosed."""

    def retire(self) -> None:
        """Have the lead grant workers of other gateways nothing more: it is about to be stopped.

        Raises ControlClosed.
        """

    def renew(self, certificate: str, key: str) -> None:
        """Have workers that come from now on be met with another pair, PEM, where the way to the
        lead is encrypted. Raises ControlClosed.
        """

    def stop(self) -> None:
        """Ask every rank to exit; those that cannot hear are killed."""

    def kill(self) -> None:
        """End every rank, whatever it is doing."""


def check_group(config: ModelConfig, settings: EngineSettings) -> None:
    """Raise ModelError if a group with these settings cannot serve the model."""
    split_model(config, settings.tp, expert_parallel=settings.expert_parallel)
    check_stages(config, settings.pp)
    _check_nodes(settings)
    if settings.max_model_len > config.max_model_len:
        raise ModelError(
            f"--max-model-len {settings.max_model_len} is more than {config.name} was made for: "
            f"{config.max_model_len} tokens\nset less, or leave it out"
        )


def _check_nodes(settings: EngineSettings) -> None:
    """Raise ModelError if not every node gets whole stages, or each stage whole nodes."""
    tp, pp, nodes = settings.tp, settings.pp, settings.nodes
    if pp % nodes == 0 or (nodes % pp == 0 and tp % (nodes // pp) == 0):
        return
    if pp == 1:
        raise ModelError(
            f"--nodes {nodes}: {tp} rank{'s' * (tp > 1)} cannot be shared out evenly\n"
            "use a --tp that is a multiple of --nodes (each node has a part of every layer), or a "
            "--pp that is (each has some of the layers)"
        )
    raise ModelError(
        f"--nodes {nodes}: {pp} stages of {tp} rank{'s' * (tp > 1)} cannot be shared out evenly\n"
        "use a --pp that is a multiple of --nodes, so that each node has whole stages; or --nodes "
        "that are a multiple of --pp, and a --tp that the nodes of a stage divide"
    )
