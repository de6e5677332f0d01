"""The lead, rank 0 of a group: owns the scheduler, and alone talks to workers.

Between steps it drains its request rings; then it plans, publishes the plan to the followers, has
it run as they do (flights.py), and sends every worker one frame of tokens (workers.py).
"""

import logging
import select
import socket
import time
from typing import TYPE_CHECKING

from backend.config.cache_groups import capacity_tokens, longest_sequence
from backend.ranks.flights import choose_flights
from backend.ranks.step_under_way import Landed
from backend.ranks.workers import Workers
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.pooling_scheduler import PoolingScheduler
from backend.scheduler.prefill_budget import PrefillBudget
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.scheduler.state_slots import StateSlots
from backend.settings import EngineSettings
from backend.step import StepPlan
from backend.structured_output.faulty_matchers import build_matchers
from backend.wire.control import Attach, ChildLine, Detach, Listen, Renew, Retire, Stop
from backend.wire.link import Link, PlanWriter
from backend.wire.local.ends import LocalLeadEnd
from backend.wire.local.heartbeat import HeartbeatWriter, Load, Phase
from backend.wire.messages import Abort, Ready, Request, Served, Submit, Vocabulary
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.encryption import lead_context
from backend.wire.tcp.ends import TcpLeadEnd
from backend.wire.tcp.handshake import Reason

if TYPE_CHECKING:
    from backend.engine.engine import Engine

logger = logging.getLogger(__name__)


class Lead:
    """Takes requests, decides what runs next, and sends the tokens out."""

    def __init__(
        self,
        replica: int,
        settings: EngineSettings,
        engine: "Engine",
        line: ChildLine,
        plans: PlanWriter | None,
        heartbeat: HeartbeatWriter,
        drawn: Link | None = None,
    ) -> None:
        """plans: the way to the followers; None for a group of one. drawn: what the last stage
        tells, where there are several."""
        self._replica = replica
        self._block_size = settings.block_size
        self._engine = engine
        self._encoder = engine.config.encoder
        self._line = line
        self._plans = plans
        self._heartbeat = heartbeat
        is_pooled = engine.config.pooling is not None
        self._scheduler = (PoolingScheduler if is_pooled else Scheduler)(
            BlockPool(engine.num_blocks, settings.block_size),
            max_num_seqs=engine.max_num_seqs,
            max_num_batched_tokens=engine.token_budget,
            max_model_len=engine.max_model_len,
            vocab_size=engine.config.vocab_size,
            eos_token_ids=engine.config.eos_token_ids,
            prefix_caching=settings.prefix_caching,
            groups=engine.groups,
            runs_whole=engine.config.runs_whole,
            states=_state_slots(engine, settings.block_size),
            num_stages=settings.pp,
        )
        self._prefill_budget = PrefillBudget(settings.inter_token_ms / 1000)
        self._matchers = build_matchers(
            engine.config.vocab_size, engine.config.eos_token_ids, settings.test_faults
        )
        self._flights = choose_flights(self._scheduler, engine, self._matchers, drawn, settings.pp)
        self._waits = False  # nothing can be planned before something arrives
        self._workers = Workers(self._scheduler)
        self._acceptor: Acceptor | None = None
        self._is_stopped = False

    def announce(
        self, epoch: int, weight_bytes: list[int], replicated_bytes: int, identity: str = ""
    ) -> None:
        """Tell the supervisor that the whole group is loaded. identity: the model's."""
        engine = self._engine
        # An encoder's input and what its decoder writes each end in a block of their own.
        num_blocks = engine.num_blocks - (1 if self._encoder else 0)
        room = engine.groups, num_blocks, self._block_size, engine.token_budget
        sequence_tokens = longest_sequence(*room, engine.max_model_len)
        self._ready = Ready(
            replica=self._replica,
            epoch=epoch,
            device=str(engine.device),
            dtype=engine.dtype,
            kernels=engine.kernels,
            max_model_len=engine.max_model_len,
            kv_sequence_tokens=sequence_tokens,
            kv_capacity_tokens=capacity_tokens(*room, sequence_tokens),
            kv_bytes=engine.kv_bytes,
            num_blocks=engine.num_blocks,
            block_size=self._block_size,
            weight_bytes=weight_bytes,
            replicated_bytes=replicated_bytes,
            credit=self._scheduler.credit,
            num_slots=engine.num_slots,
            state_bytes=engine.state_bytes,
            model=identity,
        )
        self._line.send(self._ready)

    def run(self) -> None:
        """Serve until told to stop."""
        while not self._is_stopped:
            self.receive()
            self.step()
        self._send_landed(self._flights.land())  # the other ranks wait in its sums for this one
        # Workers of other gateways are told of no end but by this: it is no death.
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self._workers.close()

    def step(self) -> None:
        """Plan and run one step, and send what came of it; without work, say what is free."""
        self._send_landed(self._flights.arrived())
        self._waits = self._flights.is_full
        if self._waits:
            return
        started_s = time.monotonic()
        plan = self._scheduler.schedule(self._prefill_budget.limit)
        if plan is None:
            self._send_rest()
            return
        newcomers = self._scheduler.newcomers()
        suspects = newcomers + self._flights.suspects
        self._heartbeat.name_step(plan.step, plan.num_seqs, plan.num_tokens, suspects)
        sampled = self._scheduler.sampled
        plan = self._matchers.mask(plan, sampled)
        self._publish(plan)
        landed = self._flights.launch(plan, sampled, newcomers, started_s)
        if self._flights.tells:
            self._rest()
        self._send_landed(landed)

    def _publish(self, plan: StepPlan) -> None:
        """Write a plan to the followers' ring."""
        if self._plans is None or self._plans.write(plan.to_bytes()):
            return
        # A follower is in this step or the last, so two plans at most are unread; and one more
        # where steps fly, until the one that does has landed, which takes all ranks.
        self._send_landed(self._flights.land())
        if not self._plans.write(plan.to_bytes()):
            raise RuntimeError("the followers do not read their plans")

    # what comes in

    def receive(self) -> None:
        """Take what has arrived; sleep until something does when there is nothing to run."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        self._workers.register(poll)
        if self._acceptor is not None:
            poll.register(self._acceptor, select.POLLIN)
        self._flights.register(poll)
        is_busy = (self._scheduler.has_work or self._flights.is_flying) and not self._waits
        ready = poll.poll(0) if is_busy else self._heartbeat.wait(poll, self._show_load)
        if not ready:
            return
        self._waits = False
        while (packet := self._line.receive()) is not None:
            self._apply_control(*packet)
        if self._acceptor is not None:
            for hello, stream in self._acceptor.take():
                channel = TcpLeadEnd(hello.epoch, stream)
                self._workers.welcome(hello.worker_key, channel, self._ready)
        for worker, request in self._workers.requests():
            self._apply_request(worker, request)

    def _apply_control(self, message: object, fds: list[int]) -> None:
        match message:
            case Attach(worker=worker, epoch=epoch):
                self._workers.welcome(worker, LocalLeadEnd(epoch, fds), self._ready)
            case Listen():
                self._listen(message, *fds)
            case Detach(worker=worker, epoch=epoch):
                self._workers.detach(worker, epoch)
            case Renew(certificate, key):
                if self._acceptor is not None:
                    self._acceptor.renew(certificate, key)
            case Retire():
                self._workers.is_retiring = True
            case Stop():
                self._is_stopped = True

    def _listen(self, message: Listen, fd: int) -> None:
        """Take workers of other machines from now on. fd: of a listening socket."""
        encryption = lead_context(message.certificate, message.key) if message.certificate else None
        listener = socket.socket(fileno=fd)
        self._acceptor = Acceptor(listener, message.secret, message.incarnation, encryption)

    def _apply_request(self, worker: int, request: Request) -> None:
        match request:
            case Abort(seq_id=seq_id):
                self._scheduler.abort((worker, seq_id))
            case Vocabulary(pieces=pieces):
                self._matchers.learn(pieces)
            case Submit():
                self._admit(worker, request)
            case Served():
                self._workers.pass_on(worker, request)

    def _admit(self, worker: int, submit: Submit) -> None:
        prompt_ids: list[int] = submit.prompt_ids
        encoder_ids: list[int] = []
        if self._encoder and prompt_ids:
            prompt_ids, encoder_ids = [self._encoder.start_token_id], prompt_ids
        seq = Sequence(
            (worker, submit.seq_id),
            prompt_ids + submit.output_ids,
            len(prompt_ids),
            submit.params,
            submit.cache_salt,
            submit.priority,
            submit.tenant,
            num_prompt_logprobs=1 + submit.num_prompt_logprobs,
            encoder_ids=encoder_ids,
            second_segment=submit.second_segment,
        )
        self._heartbeat.mark_admitting(seq.key)
        try:
            self._matchers.add(seq)
            self._scheduler.add(seq)
        except ValueError as error:
            self._workers.refuse(seq.key, str(error))
        except Exception:
            logger.exception("seq=%s cannot be admitted", seq.key)
            self._workers.refuse(seq.key, "the engine failed to admit the request")
        self._heartbeat.enter(Phase.IDLE)

    # what goes out

    def _send_rest(self) -> None:
        """Without a step to plan, land the one that flies; or say what is free."""
        if not self._flights.is_flying:
            self._send_load()
        elif self._flights.tells:
            self._waits = True
        else:
            self._heartbeat.enter(Phase.STEP, self._flights.step)
            self._send_landed(self._flights.land())

    def _send_landed(self, steps: list[Landed]) -> None:
        """Send what steps gave that have landed."""
        if not steps:
            return
        self._rest()
        for step in steps:
            self._prefill_budget.observe(step.plan, step.seconds)
            self._workers.send_step(step, self._engine.runner.num_full_gathers)

    def _send_load(self) -> None:
        """Show what an abort, a refusal or a worker's end has freed, when no step is left to do so.

        Without it a worker's credit would stay at what it was, maybe 0, and its requests wait.
        """
        self._show_load()
        self._heartbeat.beat()
        self._workers.send_load()

    def _rest(self) -> None:
        """Nobody waits for a step of this process now."""
        self._show_load()
        self._heartbeat.enter(Phase.IDLE)

    def _show_load(self) -> None:
        """Have the next heartbeats carry what the group holds, and whom it has refused."""
        self._heartbeat.show(self._load)

    @property
    def _load(self) -> Load:
        scheduler = self._scheduler
        held = scheduler.num_running, scheduler.num_waiting, scheduler.pool.num_free
        if self._acceptor is None:
            return Load(*held)
        counts = self._acceptor.num_refused
        return Load(*held, num_refused=tuple(counts[reason] for reason in Reason))


def _state_slots(engine: "Engine", block_size: int) -> StateSlots | None:
    """Return the slots of a model whose layers keep states."""
    if not engine.num_slots:
        return None
    interval = engine.snapshot_interval
    return StateSlots(engine.num_slots, engine.max_num_seqs, block_size, interval)
