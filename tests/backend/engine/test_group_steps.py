"""Two ranks on a device each, played by the host: steps of a group that nobody's host waits for.

Their sums go by a process group, as on cards; the lead's flight and the follower's loop are the
real ones, over a real ring. The texts are those of one rank, step by step.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine import platform
from backend.engine.device_runner import DeviceRunner
from backend.engine.engine import Engine
from backend.engine.token_draws import TokenDraws
from backend.ops.kv_cache import KVCache
from backend.placement.sharding import split_model
from backend.ranks.flight import Flight
from backend.ranks.follower import Follower
from backend.sampling.sampler import Sampler
from backend.structured_output.matchers import Matchers
from backend.wire.control import ChildLine, Stop, SupervisorLine, create_control
from backend.wire.local.heartbeat import HeartbeatPage, HeartbeatWriter, Phase
from backend.wire.local.ring import RingFds, RingReader, RingWriter, create_ring
from tests.backend.engine.host_queue import HostQueue, HostRecording
from tests.backend.engine.replay_ops import ReplayOps
from tests.backend.engine.test_device_runner import SEQS, SIZES, Request, Texts, World
from tests.backend.factories import write_tiny_llama
from tests.backend.models.tiny_engine import engine_of, scheduler_of
from tests.backend.tp_ranks import run_gloo

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

REQUESTS = [Request((9, 10, 11), 3, 6), Request((9, 10), 0, 5), Request((9, 10), 2, 4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "_select_ops", lambda *_: ReplayOps())
        yield write_tiny_llama(tmp_path_factory.mktemp("llama"), num_layers=1)


class Wires:
    """The plans' ring, the follower's line to its supervisor, and the page of heartbeats."""

    def __init__(self) -> None:
        fds = create_ring(1 << 16)
        mine = RingFds(os.dup(fds.memory), (os.dup(fds.doorbells[0]),), (os.dup(fds.spaces[0]),))
        self.plans, self.ring = RingWriter(fds, epoch=1), RingReader(mine, epoch=1)
        ours, self._theirs = create_control()
        self.supervisor, self.line = SupervisorLine(ours), ChildLine(self._theirs)
        self.page = HeartbeatPage(2, SEQS, 1)
        self.heartbeat = HeartbeatWriter(os.dup(self.page.fd), 1, 2, 1)

    def close(self) -> None:
        for each in (self.plans, self.ring, self.supervisor, self._theirs, self.page):
            each.close()


class RefusingQueue(HostQueue):
    """A device that records nothing."""

    def record(self, work: Callable[[], None]) -> HostRecording:
        raise RuntimeError("operation not permitted when stream is capturing")


def device_runner(
    engine: Engine, tp: TensorParallel, *, on_device: bool, queue: HostQueue | None = None
) -> DeviceRunner:
    """Return a runner of one rank. on_device: draws, too, are the device's."""
    shard = split_model(engine.config, tp.size)[tp.rank]
    device, eos = torch.device("cpu"), engine.config.eos_token_ids
    cache = KVCache(
        engine.config, shard, groups=engine.groups, num_blocks=engine.num_blocks, block_size=4,
        dtype=torch.float32, device=device,
    )  # fmt: skip
    sampler, draws = Sampler(SEQS, shard.vocab, tp, eos), None
    if on_device:
        from backend.engine.device_draws import create_draws

        draws = create_draws(engine.model, SEQS, shard.vocab, eos, tp, device)
        assert draws is not None
        sampler = draws.sampler
    runner = DeviceRunner(
        engine.model, cache, sampler, queue or HostQueue(), max_num_seqs=SEQS, sizes=SIZES,
        draws=draws or TokenDraws(engine.model, sampler), tp=tp,
    )  # fmt: skip
    runner.warm_up(8)
    return runner


def lead(engine: Engine, runner: DeviceRunner, wires: Wires) -> dict[int, list[int]]:
    scheduler, texts = scheduler_of(engine, budget=16, max_num_seqs=SEQS), Texts(REQUESTS)
    texts.begin(scheduler)
    flight = Flight(scheduler, runner, Matchers(320, ()))
    while scheduler.has_work or flight.is_flying:
        plan = scheduler.schedule()
        if plan is None:
            landed = flight.land()
        else:
            newcomers = scheduler.newcomers()
            assert wires.plans.write(plan.to_bytes())
            landed = flight.launch(plan, scheduler.sampled, newcomers, 0.0)
        for step in landed:
            texts.take(scheduler, step.outputs)
    wires.supervisor.send(Stop())
    return texts.ended()


def run_group(model: Path, *, on_device: bool) -> dict[int, list[int]]:
    wires = Wires()

    def rank(tp: TensorParallel) -> dict[int, list[int]]:
        engine = engine_of(model, tp, exact=True, max_num_seqs=SEQS)
        engine.num_blocks = 64
        runner = device_runner(engine, tp, on_device=on_device)
        queue: Any = runner._queue
        if tp.rank == 0:
            ended = lead(engine, runner, wires)
            # A step that is drawn for on the host ends before the next is launched. How far the
            # other rank is ahead depends on when it finds a plan.
            assert queue.most_in_flight == (2 if on_device else 1)
            return ended
        followed: Any = SimpleNamespace(runner=runner)
        Follower(followed, wires.ring, wires.line, wires.heartbeat).run()
        assert queue.num_started == queue.num_waited and queue.num_replays > 0
        return {}

    texts, _ = run_gloo(2, rank)
    assert wires.page.heartbeats()[1].phase is Phase.IDLE
    wires.close()
    return texts


def test_two_ranks_give_the_texts_of_one(model: Path) -> None:
    alone = World(engine_of(model, exact=True, max_num_seqs=SEQS)).one_by_one(REQUESTS)
    assert run_group(model, on_device=False) == alone


@pytest.mark.numerics
def test_two_ranks_that_draw_on_their_devices_draw_alike(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of logits that are gathered; every rank goes on with its own draw."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from triton.runtime.interpreter import GridExecutor

    # The interpreter changes Triton's own functions while it runs one.
    lock, call = threading.Lock(), GridExecutor.__call__

    def one_at_a_time(self: Any, *args: Any, **kwargs: Any) -> Any:
        with lock:
            return call(self, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", one_at_a_time)
    alone = World(engine_of(model, exact=True, max_num_seqs=SEQS)).one_by_one(REQUESTS)
    assert run_group(model, on_device=True) == alone


def test_no_rank_captures_what_one_cannot(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their sums would be of different steps."""

    def rank(tp: TensorParallel) -> int:
        engine = engine_of(model, tp, exact=True, max_num_seqs=SEQS)
        queue = RefusingQueue() if tp.rank == 1 else HostQueue()
        runner = device_runner(engine, tp, on_device=False, queue=queue)
        assert runner._graphs is not None and not runner._graphs._recordings
        return queue.num_recorded

    assert run_gloo(2, rank) == [1, 0]
    told = [record.getMessage() for record in caplog.records if "graphs=off" in record.message]
    assert any("another rank cannot" in line for line in told)
    assert any("not permitted" in line for line in told)


def test_step_of_a_broken_group_gives_nothing(model: Path) -> None:
    class Broken(TensorParallel):
        def check(self) -> None:
            raise RuntimeError("rank 1 of the group has ended")

    engine = engine_of(model, exact=True, max_num_seqs=SEQS)
    runner = device_runner(engine, TensorParallel(), on_device=False)
    scheduler = scheduler_of(engine, max_num_seqs=SEQS)
    Texts(REQUESTS).begin(scheduler)
    plan = scheduler.schedule()
    assert plan is not None
    launched = runner.launch(plan)
    runner._tp = Broken()
    with pytest.raises(RuntimeError, match="has ended"):
        runner.collect(launched)
