"""The workers that a lead talks to, those of other gateways among them: their channels, and what
goes out on them.

Every worker hears of each step that concerns it in one frame, which grants credit as well. Nothing
here waits for a slow reader: a worker that is found gone is forgotten with its sequences. Knows the
scheduler for what it holds; plans and runs nothing.
"""

import select
import time
from collections.abc import Iterator

import msgspec

from backend.ranks.step_under_way import Landed
from backend.ranks.told_credits import ToldCredits
from backend.scheduler.pooling_scheduler import PoolingScheduler
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import SeqKey
from backend.wire.channel import ChannelBroken, LeadEnd
from backend.wire.messages import (
    FinishReason,
    Ready,
    Reply,
    Request,
    SeqOutput,
    StepOutput,
    StepTimings,
    Totals,
)
from backend.wire.tcp.handshake import is_of_another_gateway


class Workers:
    """Owns a channel to each worker. Used by the lead alone.

    is_retiring: the group is about to stop; workers of other gateways are granted nothing more.
    """

    def __init__(self, scheduler: Scheduler | PoolingScheduler) -> None:
        self.is_retiring = False
        self._scheduler = scheduler
        self._channels: dict[int, LeadEnd] = {}
        self._credits = ToldCredits()
        self._refusals: list[tuple[int, SeqOutput]] = []  # for the next frame
        self._totals = Totals()

    # who is there

    def welcome(self, worker: int, channel: LeadEnd, ready: Ready) -> None:
        """Take a worker's new channel, whose first frame says what the group is."""
        self.forget(worker)
        self._channels[worker] = channel
        credit = self._credit_of(worker)
        self._send(worker, msgspec.structs.replace(ready, epoch=channel.epoch, credit=credit))

    def detach(self, worker: int, epoch: int) -> None:
        """Forget a worker, unless it has a newer channel by now."""
        if worker in self._channels and self._channels[worker].epoch == epoch:
            self.forget(worker)

    def forget(self, worker: int) -> None:
        """Forget a worker that is gone, and its sequences."""
        self._scheduler.abort_worker(worker)
        self._refusals = [(w, output) for w, output in self._refusals if w != worker]
        self._credits.forget(worker)
        if (channel := self._channels.pop(worker, None)) is not None:
            channel.close()

    def close(self) -> None:
        """Forget all."""
        for worker in list(self._channels):
            self.forget(worker)

    # what comes in

    def register(self, poll: select.poll) -> None:
        """Have a poll wake when a worker has something to say, or can hear more."""
        for channel in self._channels.values():
            channel.register(poll)

    def requests(self) -> Iterator[tuple[int, Request]]:
        """Yield what has arrived, and from whom. To be exhausted."""
        for worker, channel in list(self._channels.items()):
            if self._channels.get(worker) is not channel:
                continue  # it was found gone when something was passed on to it
            try:
                for request in channel.receive():
                    yield worker, request
            except ChannelBroken:
                self.forget(worker)

    # what goes out

    def pass_on(self, worker: int, reply: Reply) -> None:
        """Send what a worker has said to all others."""
        for other in [each for each in self._channels if each != worker]:
            self._send(other, reply)

    def refuse(self, key: SeqKey, error: str) -> None:
        """Answer with the next frame: a worker found gone now would still have records to read."""
        worker, seq_id = key
        refusal = SeqOutput(seq_id, [], FinishReason.ERROR, error=error, is_final=True)
        self._refusals.append((worker, refusal))

    def send_step(self, step: Landed, num_full_gathers: int) -> None:
        """Send each worker its part of a step as one frame.

        A part may be empty: the frame still shows progress and grants credit. It is left out if the
        worker knows that already, more or less: most workers of many gateways have nothing in most
        steps. That the group rests is told to all, for nothing comes after it.
        """
        parts = self._split_by_worker(step.outputs)
        timings = StepTimings(step.schedule_s, step.result.forward_s, step.result.sample_s)
        self._totals = self._totals_with(timings, num_full_gathers)
        now_s = time.monotonic()
        rests = not self._scheduler.has_work
        for worker, part in parts.items():
            credit = self._credit_of(worker)
            if part or rests or self._credits.is_news(worker, credit, now_s):
                self._credits.note(worker, credit, now_s)
                self._send(worker, self._frame(step.plan.step, part, timings, credit))

    def send_load(self) -> None:
        """Tell all what is free, and whom was refused what, where no step does."""
        now_s = time.monotonic()
        for worker, part in self._split_by_worker([]).items():
            credit = self._credit_of(worker)
            self._credits.note(worker, credit, now_s)
            self._send(worker, self._frame(0, part, StepTimings(), credit))

    def _credit_of(self, worker: int) -> int:
        is_refused = self.is_retiring and is_of_another_gateway(worker)
        return 0 if is_refused else self._scheduler.credit

    def _split_by_worker(self, outputs: list[tuple[int, SeqOutput]]) -> dict[int, list[SeqOutput]]:
        """Sort outputs, and what was refused since the last frame, by worker."""
        parts: dict[int, list[SeqOutput]] = {worker: [] for worker in self._channels}
        for worker, output in self._refusals + outputs:
            parts[worker].append(output)
        self._refusals = []
        return parts

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

    def _totals_with(self, timings: StepTimings, num_full_gathers: int) -> Totals:
        """Return the totals with the step just committed."""
        scheduler, before = self._scheduler, self._totals
        return Totals(
            num_steps=before.num_steps + 1,
            num_prompt_tokens=scheduler.num_prompt_tokens,
            num_output_tokens=scheduler.num_output_tokens,
            num_preemptions=scheduler.num_preemptions,
            num_prefix_queries=scheduler.num_prefix_queries,
            num_prefix_hits=scheduler.num_prefix_hits,
            num_full_gathers=num_full_gathers,
            schedule_s=before.schedule_s + timings.schedule_s,
            forward_s=before.forward_s + timings.forward_s,
            sample_s=before.sample_s + timings.sample_s,
        )

    def _send(self, worker: int, reply: Reply) -> None:
        try:
            self._channels[worker].send(reply)
        except ChannelBroken:
            self.forget(worker)
