"""The parts that a step's time is shared out over are there."""

from tests.bench.steps import PARTS


def test_parts_of_a_step_name_methods_that_exist() -> None:
    assert [
        (owner, name) for _, owner, names in PARTS for name in names if not hasattr(owner, name)
    ] == []
