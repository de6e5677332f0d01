"""The sequences of one request for vectors or scores, from submit to the last of them.

Must not know HTTP, JSON or what a vector is for. Driven by the pool's frames, in the event loop.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from backend.wire.messages import FinishReason, SeqOutput
from backend.wire.sampling import SamplingParams
from gateway.answers.submission import Submission, failure
from gateway.errors import ApiError
from gateway.pool.submit_options import SubmitOptions
from gateway.requests.texts import EncodedText
from gateway.telemetry.exchange import GenerationReport

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool

# Nothing is drawn, and no token is added: a sequence needs no more room than its text.
_NO_TOKENS = SamplingParams(max_tokens=0)


class PooledTexts(Submission[int]):
    """All texts of a request, each by its index. The pool's receiver for each of them.

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
        super().__init__(pool, options)
        self.vectors = [b""] * len(texts)
        self.error: ApiError | None = None
        self.done = asyncio.Event()
        self._texts = texts
        self._params = params
        self._num_cached_tokens = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(len(text.token_ids) for text in self._texts)

    def receive(self, output: SeqOutput) -> None:
        """Take what one text became."""
        if self._is_starting:
            self._early.append(output)  # refused by the pool before submit() returned
            return
        index = self._open.pop(output.seq_id, None)
        if index is None:
            return  # was on its way when the sequence was aborted
        if output.finish_reason is not FinishReason.STOP or not output.vector:
            self._fail(failure(output))
            return
        self.vectors[index] = output.vector
        self._num_cached_tokens += output.num_cached_tokens
        if not self._open:
            self._note_end()
            self.done.set()

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

    def _parts(self) -> Iterable[int]:
        return range(len(self._texts))

    def _submit(self, part: int) -> int:
        text = self._texts[part]
        return self._pool.submit(
            text.token_ids, self._params, self, self._options, second_segment=text.second_segment
        )

    def _tell(self, error: ApiError) -> None:
        self.error = error
        self.done.set()
