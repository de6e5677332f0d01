"""What sums over ranks take, by what links them."""

import msgspec
import pytest

from backend.distributed import nodes_parallel, one_shot
from backend.placement.hop import Hop
from backend.placement.sum_cost import (
    LEAST_ONE_SHOT_BYTES,
    ONE_SHOT_BYTES,
    ONE_WAY_BYTES,
    far_sum_seconds,
    one_shot_limit,
    ring_seconds,
    sum_seconds,
)
from tests.backend.placement.planned_models import READER

HOST = msgspec.structs.replace(READER, link_latency_s=0.25, link_bandwidth=1e3)
PCIE = msgspec.structs.replace(HOST, kind="cuda", peer_bandwidth=24e9)
NVLINK = msgspec.structs.replace(PCIE, peer_bandwidth=240e9, has_nvlink=True)
LONG = 1 << 30


def test_ranks_in_the_hosts_memory_add_everyones_part() -> None:
    assert sum_seconds(HOST, 1e3, 2) == pytest.approx(1.25)
    assert sum_seconds(HOST, 1e3, 4) == pytest.approx(2.25)
    assert sum_seconds(HOST, 1e3, 1) == 0


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_long_messages_go_around_a_ring(ranks: int) -> None:
    """Each link carries 2 (R - 1) / R of the message; hops are nothing beside it."""
    for profile in (PCIE, NVLINK):
        moved = 2 * (ranks - 1) / ranks * LONG
        assert sum_seconds(profile, LONG, ranks) == pytest.approx(
            moved / profile.peer_bandwidth, rel=0.03
        )


def test_short_messages_take_a_base_and_hops() -> None:
    """A launch of 7 us, NCCL's LL of 6.6, and six hops of 1 us by PCIe and 0.6 by NVLink."""
    assert ring_seconds(PCIE, 1, 4) == pytest.approx(19.6e-6, rel=1e-3)
    assert ring_seconds(NVLINK, 1, 4) == pytest.approx(17.2e-6, rel=1e-3)


def test_no_message_is_slower_than_a_longer_one_by_the_ring() -> None:
    times = [ring_seconds(PCIE, 1 << power, 4) for power in range(10, 30)]
    assert times == sorted(times)


def test_nvlink_sums_short_messages_in_one_pass() -> None:
    limit = one_shot_limit(4)
    assert sum_seconds(NVLINK, limit, 4) == pytest.approx(9e-6 + 3 * limit / 240e9)
    assert sum_seconds(NVLINK, limit + 1, 4) == ring_seconds(NVLINK, limit + 1, 4)
    assert sum_seconds(PCIE, limit, 4) == ring_seconds(PCIE, limit, 4)


def test_one_pass_is_reckoned_with_as_far_as_ranks_go() -> None:
    assert one_shot.LIMIT_BYTES == ONE_SHOT_BYTES
    assert one_shot.LEAST_LIMIT_BYTES == LEAST_ONE_SHOT_BYTES


NETWORK = Hop(1e6, 10)
CPU = msgspec.structs.replace(HOST, kind="cpu")


def test_one_rank_a_node_sends_16_bits_to_all_others() -> None:
    assert far_sum_seconds(CPU, NETWORK, 1e3, 2, 2) == pytest.approx(10 + 1e-3)
    assert far_sum_seconds(CPU, NETWORK, 1e3, 4, 4) == pytest.approx(10 + 3e-3)


def test_long_sums_of_many_nodes_go_in_pieces() -> None:
    """Two ways, of 2 (N - 1) / N of the bytes; two nodes have nothing to gain by that."""
    assert far_sum_seconds(CPU, NETWORK, 1e6, 4, 4) == pytest.approx(20 + 1.5)
    assert far_sum_seconds(CPU, NETWORK, 1e6, 2, 2) == pytest.approx(10 + 1)
    assert ONE_WAY_BYTES == nodes_parallel.ONE_WAY_BYTES


def test_ranks_of_a_node_sum_first_and_hand_out_last() -> None:
    """In float32: twice the bytes; a sum on each node before and after."""
    near_s = sum_seconds(HOST, 2e3, 2)
    assert far_sum_seconds(CPU, NETWORK, 1e3, 4, 2) == pytest.approx(10 + 2e-3 + 2 * near_s)
    assert far_sum_seconds(PCIE, NETWORK, 1e3, 4, 2) == pytest.approx(10 + 2e-3 + 2 * near_s)
