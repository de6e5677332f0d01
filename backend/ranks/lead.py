"""The lead, rank 0 of a group: owns the scheduler, and alone talks to workers.

Between steps it drains its request rings; then it plans, publishes the plan to the followers, runs
it as they do, and sends every worker one frame of tokens. It never waits for a slow reader.
"""

import logging
import select
import socket
import time
from typing import TYPE_CHECKING, cast

import msgspec

from backend.config.cache_groups import capacity_tokens, longest_sequence
from backend.ranks.flight import Flight
from backend.ranks.staged_flight import StagedFlight
from backend.ranks.step_under_way import Landed
from backend.ranks.told_credits import ToldCredits
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.pooling_scheduler import PoolingScheduler
from backend.scheduler.prefill_budget import PrefillBudget
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.scheduler.state_slots import StateSlots
from backend.settings import EngineSettings
from backend.step import StepPlan
from backend.structured_output.faulty_matchers import build_matchers
from backend.structured_output.matchers import Matchers
from backend.wire.channel import ChannelBroken, LeadEnd
from backend.wire.control import Attach, ChildLine, Detach, Listen, Renew, Retire, Stop
from backend.wire.link import Link, PlanWriter
from backend.wire.local.ends import LocalLeadEnd
from backend.wire.local.heartbeat import HeartbeatWriter, Load, Phase
from backend.wire.messages import (
    Abort,
    FinishReason,
    Ready,
    Reply,
    Request,
    SeqOutput,
    Served,
    StepOutput,
    StepTimings,
    Submit,
    Totals,
    Vocabulary,
)
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.encryption import lead_context
from backend.wire.tcp.ends import TcpLeadEnd
from backend.wire.tcp.handshake import Reason, is_of_another_gateway

if TYPE_CHECKING:
    from backend.engine.device_runner import DeviceRunner
    from backend.engine.engine import Engine
    from backend.engine.model_runner import StepResult
    from backend.engine.stage_runner import StageRunner

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
        self._flight = _flight(self._scheduler, engine, self._matchers)
        self._staged: StagedFlight | None = None
        if drawn is not None:
            runner = cast("StageRunner", engine.runner)
            self._staged = StagedFlight(self._scheduler, runner, self._matchers, drawn, settings.pp)
        self._waits = False  # nothing can be planned before something arrives
        self._channels: dict[int, LeadEnd] = {}
        self._acceptor: Acceptor | None = None
        self._credits = ToldCredits()
        self._refusals: list[tuple[int, SeqOutput]] = []  # for the next frame
        self._is_retiring = False
        self._is_stopped = False
        self._totals = Totals()

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
        if self._flight:
            self._send_landed(self._flight.land())  # the other ranks wait in its sums for this one
        # Workers of other gateways are told of no end but by this: it is no death.
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        for worker in list(self._channels):
            self._forget_worker(worker)

    def step(self) -> None:
        """Plan and run one step, and send what came of it; without work, say what is free."""
        if self._staged is not None:
            self._send_landed(self._staged.land())
            self._waits = self._staged.is_full
            if self._waits:
                return
        started = time.monotonic()
        plan = self._scheduler.schedule(self._prefill_budget.limit)
        if plan is None:
            self._send_rest()
            return
        newcomers = self._scheduler.newcomers()
        ahead = self._flight or self._staged
        suspects = newcomers + (ahead.suspects if ahead else [])
        self._heartbeat.name_step(plan.step, plan.num_seqs, plan.num_tokens, suspects)
        if ahead:
            self._matchers.keep(lambda key: key in self._scheduler)
        sampled = self._scheduler.sampled
        plan = self._matchers.mask(plan, sampled)
        self._publish(plan)
        if self._staged is not None:
            self._staged.launch(plan, sampled, newcomers, started)
            self._show_load()
            self._heartbeat.enter(Phase.IDLE)
            return
        if self._flight:
            self._send_landed(self._flight.launch(plan, sampled, newcomers, started))
            return
        planned = time.monotonic()
        result = self._engine.runner.run(plan)
        self._engine.tp.check()
        self._prefill_budget.observe(plan, time.monotonic() - planned)
        self._matchers.accept(sampled, result.token_ids)
        outputs = self._commit(plan, result)
        self._matchers.keep(lambda key: key in self._scheduler)
        self._show_load()
        self._heartbeat.enter(Phase.IDLE)
        self._send_step(plan.step, outputs, planned - started, result)

    def _publish(self, plan: StepPlan) -> None:
        """Write a plan to the followers' ring."""
        if self._plans is None or self._plans.write(plan.to_bytes()):
            return
        # A follower is in this step or the last, so two plans at most are unread; and one more
        # where steps fly, until the one that does has landed, which takes all ranks.
        if self._flight:
            self._send_landed(self._flight.land())
        if not self._plans.write(plan.to_bytes()):
            raise RuntimeError("the followers do not read their plans")

    def _commit(self, plan: StepPlan, result: "StepResult") -> list[tuple[int, SeqOutput]]:
        if isinstance(self._scheduler, PoolingScheduler):
            return self._scheduler.commit_vectors(plan, result.vectors)
        return self._scheduler.commit(
            plan, result.token_ids, result.logprobs, result.prompt_logprobs
        )

    # what comes in

    def receive(self) -> None:
        """Take what has arrived; sleep until something does when there is nothing to run."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        for channel in self._channels.values():
            channel.register(poll)
        if self._acceptor is not None:
            poll.register(self._acceptor, select.POLLIN)
        if self._staged is not None:
            poll.register(self._staged, select.POLLIN)
        is_flying = self._flight is not None and self._flight.is_flying
        is_busy = (self._scheduler.has_work or is_flying) and not self._waits
        ready = poll.poll(0) if is_busy else self._heartbeat.wait(poll, self._show_load)
        if not ready:
            return
        self._waits = False
        while (packet := self._line.receive()) is not None:
            self._apply_control(*packet)
        if self._acceptor is not None:
            for hello, stream in self._acceptor.take():
                self._welcome(hello.worker_key, TcpLeadEnd(hello.epoch, stream))
        for worker, channel in list(self._channels.items()):
            if self._channels.get(worker) is not channel:
                continue  # it was found gone when something was passed on to it
            try:
                for request in channel.receive():
                    self._apply_request(worker, request)
            except ChannelBroken:
                self._forget_worker(worker)

    def _apply_control(self, message: object, fds: list[int]) -> None:
        match message:
            case Attach(worker=worker, epoch=epoch):
                self._welcome(worker, LocalLeadEnd(epoch, fds))
            case Listen():
                self._listen(message, *fds)
            case Detach(worker=worker, epoch=epoch):
                if worker in self._channels and self._channels[worker].epoch == epoch:
                    self._forget_worker(worker)
            case Renew(certificate, key):
                if self._acceptor is not None:
                    self._acceptor.renew(certificate, key)
            case Retire():
                self._is_retiring = True
            case Stop():
                self._is_stopped = True

    def _welcome(self, worker: int, channel: LeadEnd) -> None:
        """Take a worker's new channel, whose first frame says what the group is."""
        self._forget_worker(worker)
        self._channels[worker] = channel
        ready = msgspec.structs.replace(
            self._ready, epoch=channel.epoch, credit=self._credit_of(worker)
        )
        self._send_to(worker, ready)

    def _listen(self, message: Listen, fd: int) -> None:
        """Take workers of other machines from now on. fd: of a listening socket."""
        encryption = lead_context(message.certificate, message.key) if message.certificate else None
        listener = socket.socket(fileno=fd)
        self._acceptor = Acceptor(listener, message.secret, message.incarnation, encryption)

    def _forget_worker(self, worker: int) -> None:
        """Forget a worker that is gone, and its sequences."""
        self._scheduler.abort_worker(worker)
        self._refusals = [(w, output) for w, output in self._refusals if w != worker]
        self._credits.forget(worker)
        if (channel := self._channels.pop(worker, None)) is not None:
            channel.close()

    def _apply_request(self, worker: int, request: Request) -> None:
        match request:
            case Abort(seq_id=seq_id):
                self._scheduler.abort((worker, seq_id))
            case Vocabulary(pieces=pieces):
                self._matchers.learn(pieces)
            case Submit():
                self._admit(worker, request)
            case Served():
                for other in [each for each in self._channels if each != worker]:
                    self._send_to(other, request)

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
            self._refuse(seq, str(error))
        except Exception:
            logger.exception("seq=%s cannot be admitted", seq.key)
            self._refuse(seq, "the engine failed to admit the request")
        self._heartbeat.enter(Phase.IDLE)

    def _refuse(self, seq: Sequence, error: str) -> None:
        """Answer with the next frame: a worker found gone now would still have records here."""
        worker, seq_id = seq.key
        refusal = SeqOutput(seq_id, [], FinishReason.ERROR, error=error, is_final=True)
        self._refusals.append((worker, refusal))

    # what goes out

    def _send_step(
        self,
        step: int,
        outputs: list[tuple[int, SeqOutput]],
        schedule_s: float,
        result: "StepResult",
    ) -> None:
        """Send each worker its part of a step as one frame.

        A part may be empty: the frame still shows progress and grants credit. It is left out if the
        worker knows that already, more or less: most workers of many gateways have nothing in most
        steps. That the group rests is told to all, for nothing comes after it.
        """
        parts = self._split_by_worker(outputs)
        timings = StepTimings(schedule_s, result.forward_s, result.sample_s)
        self._totals = self._totals_with(timings)
        now_s = time.monotonic()
        rests = not self._scheduler.has_work
        for worker, part in parts.items():
            credit = self._credit_of(worker)
            if part or rests or self._credits.is_news(worker, credit, now_s):
                self._credits.note(worker, credit, now_s)
                self._send_to(worker, self._frame(step, part, timings, credit))

    def _send_rest(self) -> None:
        """Without a step to plan, land the one that flies; or say what is free."""
        if self._staged is not None and self._staged.is_flying:
            self._waits = True
            return
        if self._flight is None or not self._flight.is_flying:
            self._send_load()
            return
        self._heartbeat.enter(Phase.STEP, self._flight.step)
        self._send_landed(self._flight.land())

    def _send_landed(self, steps: list[Landed]) -> None:
        """Send what steps gave that have landed."""
        if not steps:
            return
        self._show_load()
        self._heartbeat.enter(Phase.IDLE)
        for step in steps:
            self._prefill_budget.observe(step.plan, step.seconds)
            self._send_step(step.plan.step, step.outputs, step.schedule_s, step.result)

    def _send_load(self) -> None:
        """Show what an abort, a refusal or a worker's end has freed, when no step is left to do so.

        Without it a worker's credit would stay at what it was, maybe 0, and its requests wait.
        """
        self._show_load()
        self._heartbeat.beat()
        now_s = time.monotonic()
        for worker, part in self._split_by_worker([]).items():
            credit = self._credit_of(worker)
            self._credits.note(worker, credit, now_s)
            self._send_to(worker, self._frame(0, part, StepTimings(), credit))

    def _credit_of(self, worker: int) -> int:
        """Nothing for workers of other gateways once the group is about to stop."""
        is_refused = self._is_retiring and is_of_another_gateway(worker)
        return 0 if is_refused else self._scheduler.credit

    def _show_load(self) -> None:
        """Have the next heartbeats carry what the group holds, and whom it has refused."""
        self._heartbeat.show(self._load)

    def _split_by_worker(self, outputs: list[tuple[int, SeqOutput]]) -> dict[int, list[SeqOutput]]:
        """Sort outputs, and what was refused since the last frame, by worker."""
        parts: dict[int, list[SeqOutput]] = {worker: [] for worker in self._channels}
        for worker, output in self._refusals + outputs:
            parts[worker].append(output)
        self._refusals = []
        return parts

    @property
    def _load(self) -> Load:
        scheduler = self._scheduler
        held = scheduler.num_running, scheduler.num_waiting, scheduler.pool.num_free
        if self._acceptor is None:
            return Load(*held)
        counts = self._acceptor.num_refused
        return Load(*held, num_refused=tuple(counts[reason] for reason in Reason))

    def _frame(
        self, step: int, outputs: list[SeqOutput], timings: StepTimings, credit: int
    ) -> StepOutput:
        scheduler, totals = self._scheduler, self._totals
        if scheduler.states:  # as they are now: aborts between steps change them
            totals = msgspec.structs.replace(totals, states=scheduler.states.figures)
        return StepOutput(
            step=step,
            outputs=outputs,
            timings=timings,
            credit=credit,
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting,
            num_free_blocks=scheduler.pool.num_free,
            totals=totals,
        )

    def _totals_with(self, timings: StepTimings) -> Totals:
        """Return the totals with the step just committed."""
        scheduler, before = self._scheduler, self._totals
        return Totals(
            num_steps=before.num_steps + 1,
            num_prompt_tokens=scheduler.num_prompt_tokens,
            num_output_tokens=scheduler.num_output_tokens,
            num_preemptions=scheduler.num_preemptions,
            num_prefix_queries=scheduler.num_prefix_queries,
            num_prefix_hits=scheduler.num_prefix_hits,
            num_full_gathers=self._engine.runner.num_full_gathers,
            schedule_s=before.schedule_s + timings.schedule_s,
            forward_s=before.forward_s + timings.forward_s,
            sample_s=before.sample_s + timings.sample_s,
        )

    def _send_to(self, worker: int, reply: Reply) -> None:
        try:
            self._channels[worker].send(reply)
        except ChannelBroken:
            self._forget_worker(worker)


def _flight(
    scheduler: Scheduler | PoolingScheduler, engine: "Engine", matchers: Matchers
) -> Flight | None:
    """Return what launches and lands steps, where the runner does not wait for the device."""
    if not engine.runner.runs_ahead:
        return None
    return Flight(scheduler, cast("DeviceRunner", engine.runner), matchers)


def _state_slots(engine: "Engine", block_size: int) -> StateSlots | None:
    """Return the slots of a model whose layers keep states."""
    if not engine.num_slots:
        return None
    interval = engine.snapshot_interval
    return StateSlots(engine.num_slots, engine.max_num_seqs, block_size, interval)
