"""What every test may count on."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from tests.groups import group_scheduling
from tests.level import forced_level
from tests.pairwise import mark_redundant_cases
from tests.stages import STAGE_MARKS, has_candidates, possible_marks

# This comes before any test module, and so before torch, is imported.
os.environ.update(forced_level().variables)
if not Path("/dev/nvidiactl").exists():
    # Asked when a kernel is declared, Triton's own among them: whoever imports it first decides.
    os.environ.setdefault("TRITON_INTERPRET", "1")
# How many examples, where a test names no number. Those of the quick profile are the same each
# time: whether a change passes is not to depend on the day. make test-long asks for the thorough
# one, which looks for others. How long one takes says something of a busy machine, and nothing of
# the code.
for profile, max_examples in (("quick", 40), ("thorough", 200)):
    hypothesis.settings.register_profile(
        profile,
        max_examples=max_examples,
        derandomize=profile == "quick",
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("quick")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share tests out over the cores; those that start servers over three workers.

    While one waits for a server to start, or for a promised time, the others compute. The slow
    ones, which measure and install, take all of the machine.
    """
    if starts_servers(config):
        return 3 if "not slow" in config.option.markexpr else 0
    return max(2, len(os.sched_getaffinity(0)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests together that share servers."""
    return group_scheduling(config, log) if starts_servers(config) else None


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker that computes itself one thread: more would only wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ and not starts_servers(config):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def starts_servers(config: pytest.Config) -> bool:
    return "not e2e" not in config.option.markexpr


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
    through during the tests, either. Loggers pass on what they say: to each that does not, as 57 of
    PyTorch's, pytest adds its handlers six times a test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        for logger in logging.root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.propagate = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise UsageError for a test with marks by which a stage would have left out its file."""
    mark_redundant_cases(items)
    for item in items:
        marks = STAGE_MARKS.intersection(mark.name for mark in item.iter_markers())
        if marks not in possible_marks(item.path):
            raise pytest.UsageError(f"{item.nodeid}: tests/stages.py cannot see its {set(marks)}")


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Report of set-ups and tear-downs only what went wrong, unless somebody asks for more.

    Theirs were two reports of three that workers send; they took 0.4 ms a test, on both sides.
    """
    option = item.config.option
    if "PYTEST_XDIST_WORKER" not in os.environ or option.durations is not None or option.xmlpath:
        return None
    hook, where = item.ihook, {"nodeid": item.nodeid, "location": item.location}
    hook.pytest_runtest_logstart(**where)
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(**where)
    return True


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run `async def` tests on asyncio alone: the server runs on nothing else."""
    return "asyncio"
