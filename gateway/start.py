"""Checks all that can be known before anything is spawned, then runs a supervisor."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from setproctitle import setproctitle

from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.ranks.replica import check_group
from gateway.layout import layout, warn_of_readable_secret
from gateway.nodes.ray_launcher import RayLauncher, check_ray, cluster_owner
from gateway.notices.startup_reporter import StartupReporter
from gateway.sampling_defaults import ModelSampling, load_sampling_defaults
from gateway.sandbox.template_check import check_chat_templates
from gateway.security.exposure import Unguarded, check_guarded
from gateway.security.key_file import KeyFileError
from gateway.security.tls import TlsError, TlsFiles
from gateway.settings import Settings
from gateway.supervision.incarnation import Launcher
from gateway.supervision.listener import (
    CannotListen,
    find_listener,
    find_management_listener,
)
from gateway.supervision.listening import GroupListening, ListeningError
from gateway.supervision.local_incarnation import LocalLauncher
from gateway.supervisor import Supervisor
from gateway.telemetry import logs

logger = logging.getLogger(__name__)


def run(settings: Settings, asked_for: str) -> int:
    """Serve until a signal; return the exit status.

    asked_for: the model, as the operator named it.

    Raises ModelError, before anything is spawned, for a model that cannot be served.
    """
    setproctitle("unisono: supervisor")
    logs.configure("supervisor", settings.server.log_level, settings.server.log_format)
    reporter = StartupReporter(settings)
    server, path = settings.server, Path(settings.engine.model)
    if server.launcher == "ray":
        check_ray()
    config = load_config(path, settings.engine.model_impl, settings.engine.task)
    check_chat_templates(path, server, has_chats=config.pooling is None)
    sampling = load_sampling_defaults(
        path, server.generation_config, server.override_generation_config
    )
    if sampling.unused:
        named = ", ".join(sampling.unused)
        logger.warning("%s: nothing here does what it says by %s", sampling.source, named)
    for place in layout(settings):
        if place.address is None:
            check_group(config, place.engine)
    if server.group_secret:
        warn_of_readable_secret(server.group_secret)
    try:
        with find_listener(settings.server) as listener:
            check_guarded(listener, settings.server)
            management = find_management_listener(settings.server)
            is_here = settings.server.launcher == "local"
            num_own = sum(is_here and place.address is None for place in layout(settings))
            GroupListening(settings.server).check(num_own)
            if settings.server.tls_cert or settings.server.tls_key:
                TlsFiles(settings.server.tls_cert, settings.server.tls_key)
            listeners = [listener] if management is None else [listener, management]
            return asyncio.run(serve(settings, config, sampling, listeners, reporter, asked_for))
    except (CannotListen, Unguarded, KeyFileError, ListeningError, TlsError) as error:
        reporter.fails(str(error))
        return 1


async def serve(
    settings: Settings,
    config: ModelConfig,
    sampling: ModelSampling,
    listeners: Sequence[socket.socket],
    reporter: StartupReporter,
    asked_for: str = "",
) -> int:
    """Run a supervisor in this event loop; return the exit status.

    listeners: where workers serve; the second, if there is one, is the management API's.
    """
    launcher = await open_launcher(settings, listeners[0].getsockname()[1], asked_for)
    return await Supervisor(settings, config, sampling, listeners, reporter, launcher).run()


async def open_launcher(settings: Settings, port: int, asked_for: str) -> Launcher:
    """Make what starts groups. port: where this server listens. Raises ModelError."""
    if settings.server.launcher == "local":
        return LocalLauncher(settings.server.hang_seconds, GroupListening(settings.server))
    launcher = RayLauncher(settings, cluster_owner(port))
    try:
        await launcher.open(asked_for)
    except BaseException:
        launcher.kill()
        raise
    return launcher
