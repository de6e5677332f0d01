"""What a worker notes of its frames and exchanges, and what it tells a scraper.

Called once a frame and once an exchange, never once a token. Publishes the worker's figures on its
page, soon after they change, so that any worker answers for all and a successor goes on counting.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from backend.wire.messages import StepOutput
from gateway.telemetry import families
from gateway.telemetry.access_log import log_exchange
from gateway.telemetry.exchange import Exchange, GenerationReport
from gateway.telemetry.figures import GroupFigures, Ledger, SupervisorFigures, WorkerFigures
from gateway.telemetry.page import Page

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool
    from gateway.telemetry.tracing import Tracing

# The other workers' figures are no older than that when one worker answers for all.
PUBLISH_SECONDS = 0.5

_encode = msgspec.msgpack.Encoder().encode
_decode_worker = msgspec.msgpack.Decoder(WorkerFigures).decode
_decode_supervisor = msgspec.msgpack.Decoder(SupervisorFigures).decode


@dataclass(slots=True)
class _Pulse:
    """The last frame of a group that brought this worker tokens."""

    at_s: float
    step: int
    num_going_on: int  # sequences that got a token and have not ended


class Observer:
    """The figures of one worker. Lives in the worker's event loop."""

    def __init__(self, *, access_log: bool = False, tracing: "Tracing | None" = None) -> None:
        self.ledger = Ledger()
        self._access_log = access_log
        self._tracing = tracing
        self.worker = 0
        self._pool: ReplicaPool | None = None
        self._supervisor: Page | None = None
        self._pages: dict[int, Page] = {}
        self._pulses: dict[int, _Pulse] = {}
        self._last: dict[int, StepOutput] = {}
        self._is_publishing = False

    def watch(self, pool: "ReplicaPool") -> None:
        """Show the groups and the queue of this pool, whose listener tells the frames."""
        self._pool = pool

    def connect(self, worker: int, fds: Sequence[int]) -> None:
        """Take the pages: the supervisor's, then those of all workers, mine among them.

        Goes on with the figures of this worker's earlier lives. Keeps none of the descriptors.
        """
        self.worker = worker
        self._supervisor, *pages = [Page(fd) for fd in fds]
        self._pages = dict(enumerate(pages))
        record = self._pages[worker].read()
        if record is not None:
            self.ledger.include(_decode_worker(record))

    def note_frame(self, replica: int, frame: StepOutput) -> None:
        """Note the gaps between tokens: one observation a frame, counted for its sequences.

        A sequence that goes on gets a token in each of its group's frames that bring any.
        """
        self._last[replica] = frame
        num_tokens = num_going_on = 0
        for output in frame.outputs:
            if output.token_ids:
                num_tokens += 1
                num_going_on += output.finish_reason is None
        if not num_tokens:
            if not frame.num_running:  # what went on has been aborted
                self._pulses.pop(replica, None)
            return
        now = time.monotonic()
        pulse = self._pulses.get(replica)
        if pulse is not None and pulse.step < frame.step and pulse.num_going_on:
            times = min(pulse.num_going_on, num_tokens)
            self.ledger.observe(families.ITL, now - pulse.at_s, times=times)
        self._pulses[replica] = _Pulse(now, frame.step, num_going_on)
        self._publish_soon()

    def note_resumption(self, lost_s: float) -> None:
        """Note that a sequence goes on whose group died at `lost_s`."""
        self.ledger.add(families.RESUMPTIONS)
        self.ledger.observe(families.RESUME_WAIT, time.monotonic() - lost_s)
        self._publish_soon()

    def note_exchange(self, exchange: Exchange) -> None:
        """Note an exchange that is over."""
        if self._access_log:
            log_exchange(exchange)
        if self._tracing is not None:
            self._tracing.note_exchange(exchange)
        labels = (exchange.method, exchange.route, str(exchange.status))
        self.ledger.add(families.HTTP_REQUESTS, labels=labels)
        seconds = exchange.ended_s - exchange.started_s
        self.ledger.observe(families.HTTP_DURATION, seconds, (exchange.route,))
        if exchange.generated is not None:
            self._note_generated(exchange.started_s, exchange.generated)
        self._publish_soon()

    def _note_generated(self, started_s: float, generated: GenerationReport) -> None:
        ledger, timings = self.ledger, generated.timings
        for reason in generated.finish_reasons:
            ledger.add(families.FINISHED, labels=(reason,))
        ledger.add(families.PROMPT_TOKENS, generated.num_prompt_tokens)
        ledger.add(families.CACHED_TOKENS, generated.num_cached_tokens)
        ledger.add(families.OUTPUT_TOKENS, generated.num_output_tokens)
        ledger.observe(families.PROMPT_LENGTH, generated.num_prompt_tokens)
        ledger.observe(families.OUTPUT_LENGTH, generated.num_output_tokens)
        if timings.sent:
            ledger.observe(families.QUEUE_TIME, timings.sent - timings.submitted)
        if not timings.first_token:
            return
        ledger.observe(families.TTFT, timings.first_token - started_s)
        ledger.observe(
            families.PREFILL_TIME, timings.first_token - (timings.sent or timings.submitted)
        )
        if timings.finished:
            decode_s = timings.finished - timings.first_token
            ledger.observe(families.DECODE_TIME, decode_s)
            ledger.observe(families.E2E, timings.finished - started_s)
            num_later = generated.num_output_tokens - len(generated.finish_reasons)
            if num_later > 0:
                ledger.observe(families.TPOT, decode_s / num_later)

    def workers(self) -> dict[int, WorkerFigures]:
        """Return every worker's figures: mine as they are, the others' as they published them."""
        found = {self.worker: self._own()}
        for worker, page in self._pages.items():
            if worker != self.worker and (record := page.read()) is not None:
                found[worker] = _decode_worker(record)
        return found

    def groups(self) -> list[GroupFigures]:
        """Return every group as this worker sees it. Each worker is sent a frame every step.

        Of one that is down it knows nothing; the supervisor knows that there is one.
        """
        if self._pool is None:
            return []
        known = {group.group for group in self._pool.status().groups}
        down = self.supervisor().group_restarts.keys() - known
        figures = [GroupFigures(number, False, 0, 0, 0.0, None) for number in sorted(down)]
        for group in self._pool.status().groups:
            last = self._last.get(group.group)
            used = group.total_blocks - group.free_blocks
            usage = used / group.total_blocks if group.total_blocks else 0.0
            figures.append(
                GroupFigures(
                    group.group,
                    group.ready,
                    group.running,
                    group.waiting,
                    usage,
                    last.totals if last is not None else None,
                )
            )
        return figures

    def supervisor(self) -> SupervisorFigures:
        """Return what the supervisor published last."""
        record = self._supervisor.read() if self._supervisor is not None else None
        return SupervisorFigures() if record is None else _decode_supervisor(record)

    def publish(self) -> None:
        """Write this worker's figures to its page."""
        self._is_publishing = False
        if self.worker in self._pages:
            self._pages[self.worker].write(_encode(self._own()))

    def close(self) -> None:
        """Publish for the last time, and send the last spans."""
        self.publish()
        if self._tracing is not None:
            self._tracing.close()

    def _publish_soon(self) -> None:
        if not self._is_publishing and self._pages:
            self._is_publishing = True
            asyncio.get_running_loop().call_later(PUBLISH_SECONDS, self.publish)

    def _own(self) -> WorkerFigures:
        recorded = self.ledger.counts, self.ledger.histograms
        if self._pool is None:
            return WorkerFigures(*recorded)
        return WorkerFigures(*recorded, self._pool.num_queued, self._pool.queue_seconds)
