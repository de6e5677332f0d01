"""The sequences of one request for vectors or scores, from submit to the last of them.

Must not know HTTP, JSON or what a vector is for. Driven by the pool's frames, in the event loop.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backend.wire.messages import FinishReason, SeqOutput
from backend.wire.sampling import SamplingParams
from gateway.errors import ApiError, deadline_exceeded, engine_failed
from gateway.pool.submit_options import SubmitOptions
from gateway.requests.texts import EncodedText
from gateway.telemetry.exchange import GenerationReport, Timings

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool

# Nothing is drawn, and no token is added: a sequence needs no more room than its text.
_NO_TOKENS = SamplingParams(max_tokens=0)


class PooledTexts:
    """All texts of a request. The pool's receiver for each of them.

    vectors: their float32 bytes, in the order of the texts; complete when `done` is set and `error`
    is None.
    """

    def __init__(
        self,
        pool: "ReplicaPool",
        texts: Sequence[EncodedText],
        options: SubmitOptions,
        params: SamplingParams = _NO_TOKENS,
    ) -> None:
        self.timings = Timings()
        self.vectors = [b""] * len(texts)
        self.error: ApiError | None = None
        self.done = asyncio.Event()
        self._pool = pool
        self._texts = texts
        self._options = options
        self._params = params
        self._open: dict[int, int] = {}  # seq_id -> index
        self._early: list[SeqOutput] | None = []
        self._num_cached_tokens = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(len(text.token_ids) for text in self._texts)

    def start(self) -> None:
        """Submit every text, in order.

        Raises what pool.check_room() and submit() raise, and ApiError if it is too late; nothing is
        submitted then.
        """
        options = self._options
        if options.is_expired:
            raise deadline_exceeded(options.timeout_s)
        self._pool.check_room(options.tenant)
        self.timings.submitted = time.monotonic()
        try:
            for index, text in enumerate(self._texts):
                seq_id = self._pool.submit(
                    text.token_ids,
                    self._params,
                    self,
                    options,
                    second_segment=text.second_segment,
                )
                self._open[seq_id] = index
        except BaseException:
            self.close()
            raise
        if options.deadline:
            delay_s = max(0.0, options.deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)
        early, self._early = self._early or [], None
        for output in early:
            self.receive(output)

    def sent(self, seq_id: int) -> None:
        """Note that a text has left the pool's queue for a group."""
        if not self.timings.sent:
            self.timings.sent = time.monotonic()

    def receive(self, output: SeqOutput) -> None:
        """Take what one text became."""
        if self._early is not None:
            self._early.append(output)  # refused by the pool before submit() returned
            return
        index = self._open.pop(output.seq_id, None)
        if index is None:
            return  # was on its way when the sequence was aborted
        if output.finish_reason is not FinishReason.STOP or not output.vector:
            message = output.error or "The engine gave the request up."
            self._fail(engine_failed(message, is_final=output.is_final))
            return
        self.vectors[index] = output.vector
        self._num_cached_tokens += output.num_cached_tokens
        if not self._open:
            self.timings.finished = time.monotonic()
            self.close()
            self.done.set()

    def close(self) -> None:
        """Abort what is still open. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        open_ids = list(self._open)
        self._open.clear()
        for seq_id in open_ids:
            self._pool.abort(seq_id)

    def report(self) -> GenerationReport:
        """Return what was computed. A text without a vector ended by error, or was abandoned."""
        missing = FinishReason.ERROR if self.error else FinishReason.ABORT
        return GenerationReport(
            num_prompt_tokens=self.num_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_output_tokens=0,
            finish_reasons=[
                (FinishReason.STOP if vector else missing).value for vector in self.vectors
            ],
            timings=self.timings,
        )

    def _expire(self) -> None:
        self._fail(deadline_exceeded(self._options.timeout_s))

    def _fail(self, error: ApiError) -> None:
        if self._options.is_expired:  # the engine watches the deadline, too, and may be the first
            error = deadline_exceeded(self._options.timeout_s)
        self.error = error
        self.close()
        self.done.set()
