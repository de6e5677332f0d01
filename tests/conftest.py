"""What every test may count on."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.level import forced_level
from tests.stages import STAGE_MARKS, has_candidates, possible_marks

# This comes before any test module, and so before torch, is imported.
os.environ.update(forced_level().variables)
if not Path("/dev/nvidiactl").exists():
    # Asked when a kernel is declared, Triton's own among them: whoever imports it first decides.
    os.environ["TRITON_INTERPRET"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker a core: threads beside them would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Of examples, where a test names no number. make test-long asks for the thorough ones.
hypothesis.settings.register_profile("quick", max_examples=40)
hypothesis.settings.register_profile("thorough", max_examples=200)
hypothesis.settings.load_profile("quick")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share tests out over the cores, but for those that start servers: these take all of them."""
    has_servers = "not e2e" not in config.option.markexpr
    return 0 if has_servers else max(2, len(os.sched_getaffinity(0)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files and folders none of whose tests are selected."""
    is_test = collection_path.is_dir() or collection_path.name.startswith("test_")
    if is_test and not has_candidates(collection_path, config.option.markexpr):
        return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: a million objects are made, and all of them stay.

    To look through them again and again was a third of the time. What is frozen is not looked
    through during the tests, either.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise UsageError for a test with marks by which a stage would have left out its file."""
    for item in items:
        marks = STAGE_MARKS.intersection(mark.name for mark in item.iter_markers())
        if marks not in possible_marks(item.path):
            raise pytest.UsageError(f"{item.nodeid}: tests/stages.py cannot see its {set(marks)}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run `async def` tests on asyncio alone: the server runs on nothing else."""
    return "asyncio"
