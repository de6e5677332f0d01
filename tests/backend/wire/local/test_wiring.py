"""What each rank of a group is sent: every descriptor comes out under the name it went in by."""

import itertools
import os
from collections.abc import Iterator

import pytest

from backend.wire.local.ring import RingReader, RingWriter
from backend.wire.local.wiring import GroupFds, WiringFds


@pytest.fixture
def page() -> Iterator[int]:
    fd = os.memfd_create("page")
    yield fd
    os.close(fd)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_wiring_unpacks_what_was_packed(page: int, size: int) -> None:
    group_fds = GroupFds(page, size)
    for rank in range(size):
        mine = group_fds.view(rank)
        assert WiringFds.unpack(mine.pack(), rank=rank, size=size) == mine
        assert (mine.plans is None) == (mine.exchange is None) == (size == 1)
    group_fds.close()


def test_wiring_rings_each_other_rank_by_a_bell_of_its_own(page: int) -> None:
    group_fds = GroupFds(page, 3)
    exchanges = [group_fds.view(rank).exchange for rank in range(3)]
    for one, two in itertools.permutations(range(3), 2):
        others_of = [[rank for rank in range(3) if rank != own] for own in range(3)]
        first, second = exchanges[one], exchanges[two]
        assert first is not None and second is not None
        assert first.out[others_of[one].index(two)] == second.into[others_of[two].index(one)]
    group_fds.close()


def test_wiring_leads_plans_to_every_follower(page: int) -> None:
    group_fds = GroupFds(page, 3)
    lead, *followers = [
        WiringFds.unpack([*map(os.dup, group_fds.view(rank).pack())], rank=rank, size=3)
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
    group_fds = GroupFds(page, size)
    fds = [*group_fds.view(0).pack(), 99][: len(group_fds.view(0).pack()) + change]
    with pytest.raises(ValueError, match=f"rank 0 of {size} got {len(fds)} descriptors"):
        WiringFds.unpack(fds, rank=0, size=size)
    group_fds.close()
