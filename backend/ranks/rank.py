"""A rank process: how it starts, loads its part and becomes the lead or a follower of its group.

An idle rank sleeps in poll(). Any exit of a rank, whatever its code, is the end of its group; the
supervisor sees to that.
"""

import contextlib
import faulthandler
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backend.config.errors import ModelError
from backend.config.identity import model_identity
from backend.ranks.follower import Follower
from backend.ranks.lead import Lead
from backend.ranks.local_replica import RankSpawn
from backend.ranks.meeting import FarLinks, PlanFanOut, meet
from backend.settings import EngineSettings
from backend.wire.channel import ChannelBroken
from backend.wire.control import ChildLine, ControlClosed, GroupWiring, Meet, Progress, Stop
from backend.wire.group_shape import GroupShape
from backend.wire.link import Link, PlanReader, PlanWriter
from backend.wire.local.child import ChildContext
from backend.wire.local.collection import collection_paused
from backend.wire.local.heartbeat import HeartbeatWriter, Load, Phase, num_batches
from backend.wire.local.ring import RingReader, RingWriter
from backend.wire.local.ring_link import RingLink
from backend.wire.local.wiring import WiringFds
from backend.wire.messages import Failed

if TYPE_CHECKING:
    from backend.distributed.pipeline import Pipeline
    from backend.distributed.tensor_parallel import TensorParallel
    from backend.engine.engine import Engine

# Progress is for eyes: more packets than five a second would only cost.
PROGRESS_INTERVAL_S = 0.2
# A process with 1000 is the first that the kernel ends. A group comes back, so it goes sooner than
# a worker.
OOM_SCORE_ADJ = 500
# What ends a rank elsewhere is known and told within 0.3 s; whatever vanishes is, within 11 s, of
# which the connection takes up to 9.5.
LOST_SECONDS = 0.5


def rank_main(context: ChildContext, spawn: RankSpawn) -> None:
    """Entry point of a spawned rank; returns when told to stop, or ends the process then."""
    line = context.begin()
    # Before it kills a group that hangs, the supervisor asks every rank where it is.
    faulthandler.register(signal.SIGUSR1)
    _offer_memory()
    _prepare_threads(spawn.settings)
    status = 0
    try:
        _serve(spawn, line)
    except ControlClosed:
        pass  # the supervisor is gone, and so is everyone to report to
    except ModelError as error:
        status = _failed(line, spawn.rank, str(error))
    except ChannelBroken as error:
        status = _lost(line, spawn.rank, error)
    except Exception as error:
        traceback.print_exc()
        status = _failed(line, spawn.rank, f"{type(error).__name__}: {error}")
    if spawn.settings.tp > 1 and _has_device():
        # Its libraries' ends wait for the device, and that maybe for a rank that is gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if status:
        sys.exit(status)


def _lost(line: ChildLine, rank: int, error: ChannelBroken) -> int:
    """A rank on another node is gone, or cannot be reached: let that node tell why, if it can."""
    with contextlib.suppress(ControlClosed):
        if _stops(line, LOST_SECONDS):
            return 0
    return _failed(line, rank, f"a rank on another node is lost: {error}", is_foreign=True)


def _stops(line: ChildLine, seconds: float) -> bool:
    """Whether this rank is told to stop before so long."""
    poll, until_s = select.poll(), time.monotonic() + seconds
    poll.register(line, select.POLLIN)
    while (left_s := until_s - time.monotonic()) > 0 and poll.poll(1000 * left_s):
        while (packet := line.receive()) is not None:
            if isinstance(packet[0], Stop):
                return True
    return False


def _failed(line: ChildLine, rank: int, message: str, *, is_foreign: bool = False) -> int:
    with contextlib.suppress(ControlClosed):
        line.send(Failed(rank, message, is_foreign))
    return 1


def _has_device() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


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
    """Return how many threads a rank computes with: its share of the cores."""
    num_ranks = settings.num_ranks * settings.dp
    return settings.threads or max(1, len(os.sched_getaffinity(0)) // num_ranks)


def _serve(spawn: RankSpawn, line: ChildLine) -> None:
    """Load this rank's part, then lead or follow until told to stop."""
    shape = spawn.shape
    wiring = _await_wiring(line, spawn.rank, shape)
    heartbeat = HeartbeatWriter(
        wiring.page,
        spawn.rank - shape.local.start,
        len(shape.local),
        spawn.epoch,
        num_steps=num_batches(shape.pp),
    )
    with collection_paused():
        # torch.multiprocessing before anything else of torch: it installs torch's own reducers.
        import torch.multiprocessing

        from backend import native
        from backend.distributed.pipeline import Pipeline
        from backend.engine.engine import build_engine

    torch.set_num_threads(num_threads(spawn.settings))
    native.set_num_threads(num_threads(spawn.settings))
    before, after, drawn = (
        RingLink(fds, epoch=spawn.epoch, on_wait=heartbeat.beat) if fds is not None else None
        for fds in (wiring.before, wiring.after, wiring.drawn)
    )
    far = FarLinks()
    if not shape.is_whole:
        far = meet(spawn.rank, shape, spawn.epoch, *_await_meeting(line), heartbeat.beat)
    tp = _join_group(spawn, wiring, shape, far)
    # In memory each rank reads what it needs; a stage on several nodes has no memory in common.
    shares = tp if len(shape.peers(spawn.rank)) == shape.tp else None
    pipeline = Pipeline(
        shape.stage_of(spawn.rank),
        shape.pp,
        before or far.before,
        after or far.after,
        shares if far.before is not None else None,
        shares if far.after is not None else None,
    )
    try:
        reporter = StartReporter(line, spawn.rank, heartbeat)
        engine = build_engine(spawn.settings, tp, reporter, line.send, spawn.first_rank, pipeline)
        _run(spawn, line, wiring, heartbeat, engine, pipeline, drawn, far)
    finally:
        tp.abort()


def _join_group(
    spawn: RankSpawn, wiring: WiringFds, shape: GroupShape, far: FarLinks
) -> "TensorParallel":
    """Move next to this rank's device, and return what sums over the ranks of its stage."""
    from backend.distributed.shm import SharedMemoryParallel
    from backend.distributed.tensor_parallel import TensorParallel
    from backend.engine.device_locality import stay_near
    from backend.engine.platform import device_of

    device = device_of(spawn.settings, spawn.rank, spawn.first_rank)
    stay_near(device)
    peers, leads = shape.peers(spawn.rank), shape.node_leads(spawn.rank)
    host = TensorParallel()
    if wiring.exchange is not None:
        host = SharedMemoryParallel(spawn.rank - peers.start, len(peers), wiring.exchange)
    if len(leads) > 1:
        from backend.distributed.nodes_parallel import NodesParallel

        return NodesParallel(host, len(leads), leads.index(peers.start), far.sums)
    if device.type == "cpu" or wiring.meeting is None:
        return host
    from backend.distributed.device_group import join_devices

    return join_devices(host, device, wiring.meeting)


def _run(
    spawn: RankSpawn,
    line: ChildLine,
    wiring: WiringFds,
    heartbeat: HeartbeatWriter,
    engine: "Engine",
    pipeline: "Pipeline",
    drawn: Link | None,
    far: FarLinks,
) -> None:
    """Run what the group is asked for, as its lead or after it."""
    import torch

    sizes = torch.tensor([engine.model.weight_bytes, engine.model.replicated_bytes])
    # Of each stage the ranks' pairs, one after the other.
    of_stages = pipeline.gather(engine.tp.all_gather(sizes).flatten().tolist())
    weight_bytes = [size for stage in of_stages for size in stage[::2]]
    # Stages have nothing in common.
    replicated_bytes = of_stages[0][1] if len(of_stages) == 1 else 0
    # Not sooner: in the gather a rank may have waited long for others that still loaded.
    heartbeat.show(Load(num_free_blocks=engine.num_blocks), str(engine.device))
    heartbeat.enter(Phase.IDLE)
    if spawn.rank > 0:
        plans: PlanReader | None = far.lead
        if wiring.plans is not None:
            plans = RingReader(wiring.plans, epoch=spawn.epoch)
        assert plans is not None, "plans come from this machine or another"
        if far.lead is not None and spawn.rank == spawn.shape.teller:
            drawn = far.lead
        Follower(engine, plans, line, heartbeat, drawn).run()
        return
    ring = RingWriter(wiring.plans, epoch=spawn.epoch) if wiring.plans is not None else None
    writer: PlanWriter | None = ring
    if far.ranks:
        writer, drawn = PlanFanOut(ring, [*far.ranks.values()]), far.ranks.get(spawn.shape.teller)
    lead = Lead(spawn.replica, spawn.settings, engine, line, writer, heartbeat, drawn)
    identity = model_identity(engine.config)
    lead.announce(spawn.epoch, weight_bytes, replicated_bytes, identity)
    lead.run()


def _await_meeting(line: ChildLine) -> tuple[Meet, socket.socket | None]:
    """Wait until it is known where the group's ranks meet; return that, and the lead's socket."""
    message, fds = _await_message(line)
    if not isinstance(message, Meet):
        raise ControlClosed("told to stop before the group has met")
    return message, socket.socket(fileno=fds[0]) if fds else None


def _await_wiring(line: ChildLine, rank: int, shape: GroupShape) -> WiringFds:
    """Wait for what connects this rank with the others and with the supervisor."""
    message, fds = _await_message(line)
    if not isinstance(message, GroupWiring):
        raise ControlClosed("told to stop before the group was formed")
    return WiringFds.unpack(fds, rank, shape)


def _await_message(line: ChildLine) -> tuple[object, list[int]]:
    """Wait for what the supervisor sends next; return it, and the descriptors beside it."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    while (packet := line.receive()) is None:
        poll.poll()
    return packet


class StartReporter:
    """Passes start-up progress on, a few times a second."""

    def __init__(
        self,
        line: ChildLine,
        rank: int,
        heartbeat: HeartbeatWriter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._rank = rank
        self._heartbeat = heartbeat
        self._phase: Phase | None = None
        self._clock = clock
        self._next_s = 0.0

    def __call__(self, phase: Phase, fraction: float) -> None:
        now_s = self._clock()
        if phase is Phase.WARM_UP and phase is not self._phase:
            self._heartbeat.enter(Phase.WARM_UP)
        self._heartbeat.beat()
        if phase is not self._phase or fraction >= 1 or now_s >= self._next_s:
            self._phase, self._next_s = phase, now_s + PROGRESS_INTERVAL_S
            self._line.send(Progress(self._rank, phase, fraction))
