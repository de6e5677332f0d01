"""Which of the proofs of model families run when."""

from pathlib import Path

import pytest

# Every test here: added below, as a conftest.py's own is not; tests/stages.py reads it.
pytestmark = pytest.mark.numerics


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands here: `make test` runs it in a stage of its own.

    Of a variant of a family, which has a comma in its name, only the logits are compared each time;
    that ranks, files and caches serve it is tried by make test-long.
    """
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytestmark)
        name, _, case = item.nodeid.rpartition("::")[2].partition("[")
        if "test_families.py" in item.nodeid and ", " in case and "test_logits" not in name:
            item.add_marker(pytest.mark.slow)
