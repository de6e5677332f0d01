"""Which of the proofs of model families run when."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands here: `make test` runs it in a stage of its own.

    Of a variant of a family, which has a comma in its name, only the logits are compared each time;
    that ranks, files and caches serve it is tried by make test-long.
    """
    for item in items:
        if "tests/backend/models/" not in item.nodeid:
            continue
        item.add_marker(pytest.mark.numerics)
        name, _, case = item.nodeid.rpartition("::")[2].partition("[")
        if "test_families.py" in item.nodeid and ", " in case and "test_logits" not in name:
            item.add_marker(pytest.mark.slow)
