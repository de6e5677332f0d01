"""A rank process: how it starts, and what a follower does. Rank 0 is in lead.py.

An idle rank sleeps in poll(). Any exit of a rank, whatever its code, is the end of its group; the
supervisor sees to that.
"""

import contextlib
import faulthandler
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from backend.config.model_config import ModelError
from backend.ranks.lead import Lead
from backend.ranks.replica import RankSpawn
from backend.settings import EngineSettings
from backend.step import PlanCorrupt, StepPlan
from backend.wire.control import ChildLine, ControlClosed, GroupWiring, Progress, Stop
from backend.wire.local.child import ChildContext
from backend.wire.local.heartbeat import HeartbeatWriter, Load, Phase
from backend.wire.local.rank_exchange import RankExchangeFds
from backend.wire.local.ring import RingFds, RingReader, RingWriter
from backend.wire.messages import Failed

if TYPE_CHECKING:
    from backend.engine.engine import Engine

# Progress lines a second are for eyes; more would only cost packets.
PROGRESS_INTERVAL_S = 0.2
# Of 1000, which ends a process before any other; a group comes back.
OOM_SCORE_ADJ = 500


def rank_main(birth: ChildContext, spawn: RankSpawn) -> None:
    """Entry point of a spawned rank; returns when told to stop."""
    line = birth.begin()
    # Before it kills a group that hangs, the supervisor asks every rank where it is.
    faulthandler.register(signal.SIGUSR1)
    _offer_memory()
    _prepare_threads(spawn.settings)
    try:
        _serve(spawn, line)
    except ControlClosed:
        return  # the supervisor is gone, and so is everyone to report to
    except ModelError as error:
        _fail(line, spawn.rank, str(error))
    except Exception as error:
        traceback.print_exc()
        _fail(line, spawn.rank, f"{type(error).__name__}: {error}")


def _fail(line: ChildLine, rank: int, message: str) -> NoReturn:
    with contextlib.suppress(ControlClosed):
        line.send(Failed(rank, message))
    sys.exit(1)


def _offer_memory() -> None:
    """Have the kernel, when memory runs out, end a rank before a worker or the supervisor."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ))


def _prepare_threads(settings: EngineSettings) -> None:
    """Set what the OpenMP runtime reads when torch loads it."""
    # How long a thread spins before it sleeps, between two parallel regions. Measured on two
    # cores, ms a step at 1 and 64 rows: sleeping at once 25 and 101, 10,000 turns (some 20 us)
    # 14 and 61, the default of 300,000 13 and 88: it takes the cores from everyone else.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ["OMP_NUM_THREADS"] = str(num_threads(settings))


def num_threads(settings: EngineSettings) -> int:
    """Threads a rank computes with: the cores, shared out over all ranks."""
    return settings.threads or max(1, len(os.sched_getaffinity(0)) // (settings.tp * settings.dp))


def _serve(spawn: RankSpawn, line: ChildLine) -> None:
    size = spawn.settings.tp
    page, *group_fds = _form(line)
    heart = HeartbeatWriter(page, spawn.rank, size, spawn.epoch)
    # torch.multiprocessing before anything else of torch: it installs torch's own reducers.
    import torch.multiprocessing

    from backend.engine.engine import build_engine
    from backend.parallel import TensorParallel

    torch.set_num_threads(num_threads(spawn.settings))
    exchange, step_fds = _split_fds(group_fds, size)
    tp = TensorParallel(spawn.rank, size, exchange)
    reporter = _Reporter(line, spawn.rank, heart)
    engine = build_engine(spawn.settings, tp, reporter, line.send, spawn.first_rank)
    sizes = torch.tensor([engine.model.weight_bytes, engine.model.replicated_bytes])
    weight_bytes, replicated_bytes = tp.all_gather(sizes).T.tolist()
    # Not sooner: in the gather a rank may have waited long for others that still loaded.
    heart.show(Load(num_free_blocks=engine.num_blocks), str(engine.device))
    heart.enter(Phase.IDLE)
    if spawn.rank > 0:
        memory, doorbell, space = step_fds
        ring = RingReader(memory, doorbell, space, epoch=spawn.epoch)
        Follower(engine, ring, line, heart).run()
        return
    memory, *bells = step_fds or (-1,)
    fds = RingFds(memory, tuple(bells[: size - 1]), tuple(bells[size - 1 :]))
    steps = RingWriter(fds, epoch=spawn.epoch) if size > 1 else None
    lead = Lead(spawn.replica, spawn.settings, engine, line, steps, heart)
    lead.announce(spawn.epoch, weight_bytes, replicated_bytes[0])
    lead.run()


def _form(line: ChildLine) -> list[int]:
    """Wait for what connects this rank with the others and with the supervisor."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    while (packet := line.receive()) is None:
        poll.poll()
    message, fds = packet
    if not isinstance(message, GroupWiring):
        raise ControlClosed("told to stop before the group was formed")
    return fds


def _split_fds(fds: list[int], size: int) -> tuple[RankExchangeFds | None, tuple[int, ...]]:
    """Part what a group of several ranks exchanges through from its step ring."""
    if size == 1:
        return None, ()
    others = size - 1
    exchange = RankExchangeFds(
        fds[0], tuple(fds[1 : 1 + others]), tuple(fds[1 + others : 1 + 2 * others])
    )
    return exchange, tuple(fds[1 + 2 * others :])


class _Reporter:
    """Passes start-up progress on, a few times a second."""

    def __init__(self, line: ChildLine, rank: int, heart: HeartbeatWriter) -> None:
        self._line = line
        self._rank = rank
        self._heart = heart
        self._phase: Phase | None = None
        self._next = 0.0

    def __call__(self, phase: Phase, fraction: float) -> None:
        now = time.monotonic()
        if phase is Phase.WARM_UP and phase is not self._phase:
            self._heart.enter(Phase.WARM_UP)
        self._heart.beat()
        if phase is not self._phase or fraction >= 1 or now >= self._next:
            self._phase, self._next = phase, now + PROGRESS_INTERVAL_S
            self._line.send(Progress(self._rank, phase, fraction))


class Follower:
    """Runs the plans it is sent, in order, each once."""

    def __init__(
        self, engine: "Engine", ring: RingReader, line: ChildLine, heart: HeartbeatWriter
    ) -> None:
        self._engine = engine
        self._ring = ring
        self._line = line
        self._heart = heart
        self._step = 0

    def run(self) -> None:
        """Return when told to stop. Raises RingCorrupt and PlanCorrupt."""
        poll = select.poll()
        poll.register(self._ring, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        while True:
            self._heart.wait(poll)
            for record in self._ring.read():
                self._follow(StepPlan.from_bytes(record))
            while (packet := self._line.receive()) is not None:
                if isinstance(packet[0], Stop):
                    return

    def _follow(self, plan: StepPlan) -> None:
        self._step += 1
        if plan.step != self._step:
            raise PlanCorrupt(f"step {plan.step} came where {self._step} was due")
        self._heart.enter(Phase.STEP, plan.step)
        self._engine.runner.run(plan)
        self._heart.enter(Phase.IDLE)
