"""The heartbeat page: what was said is read, and what is torn is never believed."""

import os
import select
import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from backend.wire.local.heartbeat import (
    HEARTBEAT_BYTES,
    NUM_REASONS,
    Batch,
    HeartbeatPage,
    HeartbeatWriter,
    Load,
    Phase,
)
from backend.wire.tcp.handshake import Reason

EPOCH = 7
MAX_SUSPECTS = 16


class Clock:
    """Nanoseconds, moved by hand."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def make(
    num_ranks: int = 2, clock_ns: Callable[[], int] = time.monotonic_ns
) -> tuple[HeartbeatPage, list[HeartbeatWriter]]:
    page = HeartbeatPage(num_ranks, MAX_SUSPECTS, EPOCH)
    return page, [
        HeartbeatWriter(os.dup(page.fd), rank, num_ranks, EPOCH, clock_ns)
        for rank in range(num_ranks)
    ]


def test_heartbeat_of_a_rank_not_begun_is_loading_since_the_page() -> None:
    before = time.monotonic_ns()
    page = HeartbeatPage(2, MAX_SUSPECTS, EPOCH)
    for heartbeat in page.heartbeats():
        assert (heartbeat.phase, heartbeat.epoch, heartbeat.step) == (Phase.LOAD, EPOCH, 0)
        assert before <= heartbeat.progress_ns <= time.monotonic_ns()
    page.close()


def test_heartbeat_says_phase_step_load_and_device_of_each_rank() -> None:
    page, (lead, follower) = make()
    lead.show(Load(3, 2, 1), "cuda:1")
    lead.name_step(5, 3, 17, [(0, 1), (1, 2**60)])
    follower.enter(Phase.WARM_UP)
    first, second = page.heartbeats()
    assert (first.phase, first.step, first.load) == (Phase.STEP, 5, Load(3, 2, 1))
    assert (first.device, second.device) == ("cuda:1", "")
    assert second.phase is Phase.WARM_UP
    assert page.batch(0) == Batch(5, 3, 17, [(0, 1), (1, 2**60)])
    assert page.batch(1) is None
    page.close()


def test_batch_of_a_follower_still_in_the_step_before_is_kept() -> None:
    page, (lead, follower) = make()
    lead.name_step(4, 1, 9, [(0, 4)])
    follower.enter(Phase.STEP, 4)
    lead.name_step(5, 1, 1, [])
    assert page.batch(1) == Batch(4, 1, 9, [(0, 4)])
    assert page.batch(0) == Batch(5, 1, 1, [])
    lead.name_step(6, 1, 1, [(0, 6)])
    assert page.batch(1) is None, "overwritten, and told apart by its number"
    page.close()


def test_batch_between_steps_is_none_but_for_a_newcomer() -> None:
    page, (lead, _) = make()
    lead.name_step(4, 1, 9, [(0, 4)])
    lead.enter(Phase.IDLE)
    assert page.batch(0) is None
    lead.mark_admitting((1, 8))
    assert page.batch(0) == Batch(4, 1, 0, [(1, 8)])
    page.close()


def test_batch_cuts_suspects_that_do_not_fit() -> None:
    page, (lead, _) = make()
    lead.name_step(1, 99, 99, [(0, i) for i in range(99)])
    batch = page.batch(0)
    assert batch is not None and batch.suspects == [(0, i) for i in range(MAX_SUSPECTS)]
    page.close()


def test_heartbeat_of_another_incarnation_is_not_believed() -> None:
    page = HeartbeatPage(1, MAX_SUSPECTS, EPOCH)
    stranger = HeartbeatWriter(os.dup(page.fd), 0, 1, EPOCH - 1)
    stranger.enter(Phase.STEP, 3)
    assert page.heartbeats()[0].phase is Phase.LOAD
    page.close()


@given(data=st.data(), suspects=st.lists(st.integers(0, 99), max_size=MAX_SUSPECTS))
def test_heartbeat_torn_is_never_read_as_another(data: st.DataObject, suspects: list[int]) -> None:
    """A copy stopped after any byte leaves the record before, or this one, or none."""
    page, (lead,) = make(1)
    size = os.fstat(page.fd).st_size

    def states() -> tuple[bytes, Batch | None]:
        return os.pread(page.fd, size, 0), page.batch(0)

    lead.name_step(1, 1, 1, [(0, 7)])
    old, old_batch = states()
    old_heartbeat = page.heartbeats()[0]
    lead.name_step(3, len(suspects), 5, [(1, seq_id) for seq_id in suspects])  # the same parity
    new, new_batch = states()
    new_heartbeat = page.heartbeats()[0]
    assert new_batch is not None and len(new_batch.suspects) == len(suspects)
    cut = data.draw(st.integers(0, size))
    os.pwrite(page.fd, new[:cut] + old[cut:], 0)
    assert page.heartbeats()[0] in (old_heartbeat, new_heartbeat)
    assert page.batch(0) in (None, old_batch, new_batch)
    # The other order: the heartbeat is still the old one.
    os.pwrite(
        page.fd,
        old[:HEARTBEAT_BYTES] + new[HEARTBEAT_BYTES:cut] + old[max(cut, HEARTBEAT_BYTES) :],
        0,
    )
    assert page.batch(0) in (None, old_batch, new_batch)
    page.close()


def test_heartbeat_remembers_warm_up_and_usual_step_length() -> None:
    clock = Clock()
    page, (writer,) = make(1, clock)
    writer.enter(Phase.WARM_UP)
    clock.now_ns += 20_000_000
    writer.enter(Phase.IDLE)
    assert page.heartbeats()[0].typical_step_ns == 8_000_000
    writer.enter(Phase.STEP, 1)
    clock.now_ns += 200_000_000
    writer.enter(Phase.IDLE)
    assert page.heartbeats()[0].typical_step_ns == 20_000_000
    page.close()


def test_heartbeat_shows_progress_while_a_rank_waits() -> None:
    clock = Clock()
    page, (writer,) = make(1, clock)
    started = page.heartbeats()[0].progress_ns
    read, write = os.pipe()

    class Poll:
        """Ready at the third look; by then the second heartbeat is out."""

        looks = 0

        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            clock.now_ns += timeout_ms * 1_000_000
            self.looks += 1
            if self.looks == 3:
                assert page.heartbeats()[0].progress_ns > started
                return [(read, select.POLLIN)]
            return []

    assert writer.wait(Poll()) == [(read, select.POLLIN)]  # type: ignore[arg-type]
    os.close(read)
    os.close(write)
    page.close()


def test_every_reason_of_a_refusal_has_its_place() -> None:
    assert len(Reason) == NUM_REASONS
    page = HeartbeatPage(1, 4, 1)
    writer = HeartbeatWriter(os.dup(page.fd), 0, 1, 1)
    load = Load(1, 2, 3, tuple(range(NUM_REASONS)))
    writer.show(load)
    writer.beat()
    assert page.heartbeats()[0].load == load
    assert load.num_sequences == 3
    page.close()
