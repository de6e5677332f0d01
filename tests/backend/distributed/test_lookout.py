"""A rank stands by where cores are free, and sleeps where others want them."""

from dataclasses import dataclass

from backend.distributed.lookout import (
    CHECK_NS,
    FIRST_REST_NS,
    LAST_REST_NS,
    SPIN_NS,
    STANDBY_NS,
    Lookout,
)


@dataclass
class Core:
    """A clock that goes on a little with every look, and how long the kernel let a rank wait."""

    now_ns: int = 0
    waited_ns: int | None = 0

    def clock(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def delay_ns(self) -> int | None:
        return self.waited_ns


def lookout(core: Core, *counts: int) -> Lookout:
    places = range(1, len(counts))
    return Lookout(counts, places, delay_ns=core.delay_ns, clock=core.clock)


def spent_ns(core: Core, rank: Lookout, wanted: int) -> int:
    began_ns = core.now_ns
    rank.wait(wanted)
    return core.now_ns - began_ns


def test_rank_goes_on_at_once_when_all_have_come() -> None:
    core = Core()
    assert spent_ns(core, lookout(core, 7, 7, 8), 7) < SPIN_NS


def test_rank_stands_by_for_one_that_is_late() -> None:
    core = Core()
    late = lookout(core, 7, 6)
    assert STANDBY_NS <= spent_ns(core, late, 7) < 2 * STANDBY_NS


def test_rank_does_not_wait_for_a_second_when_the_first_is_late() -> None:
    core = Core()
    assert spent_ns(core, lookout(core, 7, 6, 6), 7) < 2 * STANDBY_NS


def test_rank_that_waits_for_its_core_stops_standing_by() -> None:
    """Two ranks beside a program that wanted a core had 143 tokens/s standing by, 189 sleeping."""
    core = Core()
    rank = lookout(core, 7, 6)
    core.now_ns += 2 * CHECK_NS
    core.waited_ns = CHECK_NS
    assert spent_ns(core, rank, 7) < 2 * SPIN_NS
    core.now_ns += FIRST_REST_NS
    assert spent_ns(core, rank, 7) >= STANDBY_NS


def test_rests_grow_while_the_crowd_stays() -> None:
    core = Core()
    rank = lookout(core, 7, 6)
    rests = []
    for _ in range(20):
        core.now_ns += 2 * CHECK_NS
        assert core.waited_ns is not None
        core.waited_ns += CHECK_NS
        rank.wait(7)
        began_ns = core.now_ns
        while not rank.stands_by:
            core.now_ns += FIRST_REST_NS // 2
            rank.wait(7)
        rests.append(core.now_ns - began_ns)
    assert rests == sorted(rests) and rests[-1] >= LAST_REST_NS


def test_gateway_on_the_same_cores_is_no_crowd() -> None:
    core = Core()
    rank = lookout(core, 7, 6)
    while core.now_ns < 3 * CHECK_NS:
        assert core.waited_ns is not None
        core.waited_ns += STANDBY_NS // 6
        rank.wait(7)
    assert rank.stands_by


def test_rank_sleeps_where_the_kernel_does_not_say() -> None:
    core = Core(waited_ns=None)
    assert spent_ns(core, lookout(core, 7, 6), 7) < 2 * SPIN_NS
