"""What each rank of a group is sent: every descriptor comes out under the name it went in by."""

import itertools
import os
from collections.abc import Iterator

import pytest

from backend.wire.group_shape import GroupShape
from backend.wire.local.ring import RingReader, RingWriter
from backend.wire.local.ring_link import RingLink
from backend.wire.local.wiring import GroupFds, WiringFds


@pytest.fixture
def page() -> Iterator[int]:
    fd = os.memfd_create("page")
    yield fd
    os.close(fd)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_wiring_unpacks_what_was_packed(page: int, size: int) -> None:
    group_fds = GroupFds(page, GroupShape.on_one_machine(size))
    for rank in range(size):
        mine = group_fds.view(rank)
        assert WiringFds.unpack(mine.pack(), rank, GroupShape.on_one_machine(size)) == mine
        assert (mine.plans is None) == (mine.exchange is None) == (size == 1)
    group_fds.close()


def test_wiring_rings_each_other_rank_by_a_bell_of_its_own(page: int) -> None:
    group_fds = GroupFds(page, GroupShape.on_one_machine(3))
    exchanges = [group_fds.view(rank).exchange for rank in range(3)]
    for one, two in itertools.permutations(range(3), 2):
        others_of = [[rank for rank in range(3) if rank != own] for own in range(3)]
        first, second = exchanges[one], exchanges[two]
        assert first is not None and second is not None
        assert first.out[others_of[one].index(two)] == second.into[others_of[two].index(one)]
    group_fds.close()


def test_wiring_leads_plans_to_every_follower(page: int) -> None:
    shape = GroupShape.on_one_machine(3)
    group_fds = GroupFds(page, shape)
    lead, *followers = [
        WiringFds.unpack([*map(os.dup, group_fds.view(rank).pack())], rank, shape)
        for rank in range(3)
    ]
    group_fds.close()
    assert lead.plans is not None
    writer = RingWriter(lead.plans, epoch=1)
    assert writer.write(b"plan")
    for follower in followers:
        assert follower.plans is not None
        reader = RingReader(follower.plans, epoch=1)
        assert list(reader.read()) == [b"plan"]
        reader.close()
    writer.close()


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("change", [-1, 1])
def test_wiring_refuses_a_number_of_descriptors_that_is_off(
    page: int, size: int, change: int
) -> None:
    group_fds = GroupFds(page, GroupShape.on_one_machine(size))
    fds = [*group_fds.view(0).pack(), 99][: len(group_fds.view(0).pack()) + change]
    with pytest.raises(ValueError, match=f"rank 0 of {size} got {len(fds)} descriptors"):
        WiringFds.unpack(fds, 0, GroupShape.on_one_machine(size))
    group_fds.close()


@pytest.mark.parametrize(("tp", "pp"), [(1, 2), (2, 2), (1, 3), (2, 3)])
def test_wiring_of_stages_unpacks_what_was_packed(page: int, tp: int, pp: int) -> None:
    shape = GroupShape.on_one_machine(tp, pp)
    group_fds = GroupFds(page, shape)
    for rank in range(shape.size):
        mine = group_fds.view(rank)
        assert WiringFds.unpack(mine.pack(), rank, shape) == mine
        assert (mine.before is None, mine.after is None) == (rank < tp, rank >= tp * (pp - 1))
        assert (mine.drawn is not None) == (rank in (0, tp * (pp - 1)))
        assert (mine.exchange is not None) == (tp > 1)
    group_fds.close()


def test_wiring_links_neighbouring_stages_both_ways(page: int) -> None:
    shape = GroupShape.on_one_machine(2, 2)
    group_fds = GroupFds(page, shape)
    packed = [[*map(os.dup, group_fds.view(rank).pack())] for rank in range(4)]
    group_fds.close()
    ranks = [WiringFds.unpack(fds, rank, shape) for rank, fds in enumerate(packed)]
    for first, second in ((0, 2), (1, 3)):
        after, before = ranks[first].after, ranks[second].before
        assert after is not None and before is not None
        above, below = RingLink(after, epoch=1), RingLink(before, epoch=1)
        above.send(b"stream")
        assert below.receive() == b"stream"
        below.send(b"numbers")
        below.send(b"more")
        assert above.read() == [b"numbers", b"more"]
        above.close()
        below.close()
    told, teller = ranks[0].drawn, ranks[2].drawn
    assert told is not None and teller is not None
    lead, last = RingLink(told, epoch=1), RingLink(teller, epoch=1)
    last.send(memoryview(b"tokens"))
    assert lead.read() == [b"tokens"]


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_closed_wiring_leaves_no_descriptor(page: int, tp: int, pp: int) -> None:
    before = {*os.listdir("/proc/self/fd")}
    GroupFds(page, GroupShape.on_one_machine(tp, pp)).close()
    # What tests before this one left to the collector may be gone meanwhile.
    assert {*os.listdir("/proc/self/fd")} <= before
