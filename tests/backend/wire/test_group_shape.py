"""Which ranks of a group are where."""

import pytest

from backend.wire.group_shape import GroupShape


@pytest.mark.parametrize(
    ("tp", "pp", "nodes", "leads"),
    [
        (1, 2, 2, [[0], [1]]),
        (2, 2, 2, [[0], [0], [2], [2]]),
        (2, 1, 2, [[0, 1], [0, 1]]),
        (4, 1, 2, [[0, 2]] * 4),
        (2, 2, 4, [[0, 1], [0, 1], [2, 3], [2, 3]]),
        (4, 2, 4, [[0, 2]] * 4 + [[4, 6]] * 4),
    ],
)
def test_first_ranks_of_a_stage_on_each_node(
    tp: int, pp: int, nodes: int, leads: list[list[int]]
) -> None:
    for index in range(nodes):
        shape = GroupShape.part(tp, pp, nodes, index)
        for rank in shape.local:
            assert list(shape.node_leads(rank)) == leads[rank]
            assert shape.peers(rank).start in shape.node_leads(rank)
