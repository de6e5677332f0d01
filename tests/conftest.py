"""What every test may count on."""

import os
from pathlib import Path

import pytest

from tests.level import forced_level

# This comes before any test module, and so before torch, is imported.
os.environ.update(forced_level().variables)
if not Path("/dev/nvidiactl").exists():
    # Asked when a kernel is declared, Triton's own among them: whoever imports it first decides.
    os.environ["TRITON_INTERPRET"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker a core: threads beside them would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share tests out over the cores, but for those that start servers: these take all of them."""
    has_servers = "not e2e" not in config.option.markexpr
    return 0 if has_servers else max(2, len(os.sched_getaffinity(0)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run `async def` tests on asyncio alone: the server runs on nothing else."""
    return "asyncio"
