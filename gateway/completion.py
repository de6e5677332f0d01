"""Token ids become text: stop strings, finish reasons, token counts, for all choices of a request.

Streamed and buffered answers come out of the same code; they differ only in the Sink that takes
the text. Must not know HTTP or JSON. Driven by the pool's frames, in the event loop.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backend.wire.messages import FinishReason, SeqOutput
from backend.wire.sampling import SamplingParams
from gateway.prompt import Prompt
from gateway.schema import PromptTokensDetails, Usage

if TYPE_CHECKING:
    from gateway.replicas import ReplicaPool
    from gateway.tokenizer import Detokenizer

logger = logging.getLogger(__name__)


class StopMatcher:
    """Passes text on up to the first stop string.

    The first is the one completed earliest (of those the longest), so the result depends on the
    text alone and not on how it was cut into deltas. Only what may still become a stop string is
    held back.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.found = False
        self._stop = stop
        self._held = ""

    def push(self, text: str) -> str:
        """Take more text; return what is certain not to be part of a stop string."""
        if not self._stop or not text:
            return text
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        cut = min(_start_of(stop, text) for stop in self._stop)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """Return what was held back: no more text will come."""
        held, self._held = self._held, ""
        return held


@dataclass(slots=True)
class Choice:
    """One sequence of a request: what was asked, and its text as tokens come in.

    index: among all choices of the request, prompt-major.
    num_cached_tokens: prompt tokens that came from the prefix cache.
    """

    index: int
    prompt: Prompt
    params: SamplingParams
    detokenizer: "Detokenizer"
    matcher: StopMatcher
    num_tokens: int = 0
    num_cached_tokens: int = 0
    finish_reason: FinishReason | None = None

    def push(self, output: SeqOutput) -> str:
        """Return the text that `output` adds, and set finish_reason if it is the last.

        Tokens after a stop string are neither text nor counted.
        """
        self.num_cached_tokens = self.num_cached_tokens or output.num_cached_tokens
        pieces = []
        token_ids = output.token_ids
        if output.finish_reason is FinishReason.STOP and token_ids:
            # The end of the sequence itself is counted, but it is not text.
            self.num_tokens += 1
            token_ids = token_ids[:-1]
        for token_id in token_ids:
            self.num_tokens += 1
            pieces.append(self.matcher.push(self.detokenizer.push(token_id)))
            if self.matcher.found:
                break
        if output.finish_reason is not None and not self.matcher.found:
            pieces.append(self.matcher.push(self.detokenizer.flush()))
            pieces.append(self.matcher.flush())
        self.finish_reason = FinishReason.STOP if self.matcher.found else output.finish_reason
        return "".join(pieces)


class Sink(Protocol):
    """Where the text of a request goes. Called in the event loop; must not block or raise."""

    def write(self, choice: Choice, text: str) -> None:
        """Take more text. The last of a choice may be empty; its finish_reason is set by then."""

    def finish(self, usage: Usage) -> None:
        """Every choice has its finish_reason; nothing follows."""

    def fail(self, message: str) -> None:
        """The request cannot be completed; nothing follows. `message` is for the caller."""


class Generation:
    """All sequences of one request, from submit to the last token or the first trouble.

    The pool's receiver for each of them. A sequence is open while the pool may still send for it;
    close() aborts the open ones.
    """

    def __init__(self, pool: "ReplicaPool", sink: Sink, choices: Sequence[Choice]) -> None:
        self._pool = pool
        self._sink = sink
        self._choices = choices
        self._open: dict[int, Choice] = {}  # by seq_id

    def start(self) -> None:
        """Submit every choice, in order, and write what is known before the first token.

        Raises what pool.submit() raises; nothing is submitted then.
        """
        try:
            for choice in self._choices:
                if choice.params.max_tokens > 0:
                    seq_id = self._pool.submit(choice.prompt.token_ids, choice.params, self)
                    self._open[seq_id] = choice
        except BaseException:
            self.close()
            raise
        for choice in self._choices:
            if choice.prompt.echo:
                self._sink.write(choice, choice.prompt.echo)
            if choice.params.max_tokens == 0:  # no token to wait for, so the engine is not asked
                choice.finish_reason = FinishReason.LENGTH
                self._sink.write(choice, "")
        if not self._open:
            self._sink.finish(self.usage())

    def receive(self, output: SeqOutput) -> None:
        """Take what one sequence got in a step."""
        choice = self._open.get(output.seq_id)
        if choice is None:
            return  # was on its way when the sequence was aborted
        if output.finish_reason in (FinishReason.ERROR, FinishReason.ABORT):
            self._fail(output.error or "The engine gave the request up.")
            return
        try:
            text = choice.push(output)
        except Exception:
            # The caller reads for all requests; a fault of this one must not reach it.
            logger.exception("seq_id=%d tokens cannot be turned into text", output.seq_id)
            self._fail("The server failed to turn tokens into text.")
            return
        if choice.finish_reason is not None:
            del self._open[output.seq_id]
            if output.finish_reason is None:  # a stop string: the engine does not know
                self._pool.abort(output.seq_id)
        if text or choice.finish_reason is not None:
            self._sink.write(choice, text)
        if not self._open:
            self._sink.finish(self.usage())

    def close(self) -> None:
        """Abort what is still open. Idempotent."""
        open_ids = list(self._open)
        self._open.clear()
        for seq_id in open_ids:
            self._pool.abort(seq_id)

    def usage(self) -> Usage:
        """Count tokens so far. A prompt and its cached tokens count once, with its choice 0."""
        firsts = [choice for choice in self._choices if choice.params.choice == 0]
        num_prompt_tokens = sum(len(choice.prompt.token_ids) for choice in firsts)
        num_output_tokens = sum(choice.num_tokens for choice in self._choices)
        return Usage(
            prompt_tokens=num_prompt_tokens,
            completion_tokens=num_output_tokens,
            total_tokens=num_prompt_tokens + num_output_tokens,
            prompt_tokens_details=PromptTokensDetails(
                sum(choice.num_cached_tokens for choice in firsts)
            ),
        )

    def _fail(self, message: str) -> None:
        self.close()
        self._sink.fail(message)


def _start_of(stop: str, text: str) -> int:
    """Find where the longest end of `text` that is a beginning of `stop` starts."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return start
        start = text.find(stop[0], start + 1)
    return len(text)
