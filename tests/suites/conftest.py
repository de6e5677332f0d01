"""The server that clients' suites run against, and a way to tell what came of it."""

from collections.abc import Callable, Generator, Iterator

import pytest

from tests.e2e.server import Server
from tests.suites.environment import Unavailable
from tests.suites.model import write_suite_model
from tests.suites.tally import Tally

# `tiny` is ours; the other names are those that openai-python's suite asks for.
MODEL = "tiny"
MODEL_NAMES = (MODEL, "gpt-3.5-turbo-instruct", "gpt-6-astra")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip a suite that could not be fetched, and say why."""
    try:
        return (yield)
    except Unavailable as reason:
        pytest.skip(f"not to be had: {reason}")


@pytest.fixture(scope="session")
def suite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tiny model under every name that suites use; lenient, as by default."""
    model = write_suite_model(tmp_path_factory.mktemp("suites") / "tiny")
    names = ",".join(MODEL_NAMES)
    with Server(model, "--served-model-name", names, "--kv-cache-bytes", str(64 << 20)) as server:
        yield server


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[Tally], None]:
    """Print a tally past pytest, which swallows what tests print."""

    def print_line(tally: Tally) -> None:
        with capsys.disabled():
            print(f"\n{tally}")

    return print_line
