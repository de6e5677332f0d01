"""All choices of a request together: submit, token counts, the deadline, the first trouble.

Streamed and buffered answers come out of the same code; they differ only in the Sink that takes
the text. Must not know HTTP or JSON. Driven by the pool's frames, in the event loop.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import UNSET, UnsetType

from backend.wire.messages import FinishReason, SeqOutput, TokenLogprobs
from gateway.answers.choice import Choice, Token
from gateway.answers.repeated_names import RepeatedName
from gateway.answers.submission import Submission, failure
from gateway.errors import ApiError, engine_failed
from gateway.pool.submit_options import SubmitOptions
from gateway.schema.usage import CompletionTokensDetails, PromptTokensDetails, Usage
from gateway.telemetry.exchange import GenerationReport

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Where the text of a request goes. Called in the event loop; must not block or raise."""

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Take more text. The last of a choice may be empty; its finish_reason is set by then."""

    def finish(self, usage: Usage) -> None:
        """Every choice has its finish_reason; nothing follows."""

    def fail(self, error: ApiError) -> None:
        """The request cannot be completed; nothing follows."""


class Generation(Submission[Choice]):
    """All sequences of one request, from submit to the last token or the first trouble.

    The pool's receiver for each of them.
    """

    def __init__(
        self,
        pool: "ReplicaPool",
        sink: Sink,
        choices: Sequence[Choice],
        options: SubmitOptions | None = None,
    ) -> None:
        super().__init__(pool, options)
        self._sink = sink
        self._choices = choices
        self._held: list[SeqOutput] = []  # for choices that await their prompt's logprobs

    def receive(self, output: SeqOutput) -> None:
        """Take what one sequence got in a step."""
        if self._is_starting:
            self._early.append(output)  # refused by the pool before submit() returned
            return
        choice = self._open.get(output.seq_id)
        if choice is None:
            return  # was on its way when the sequence was aborted
        if output.finish_reason in (FinishReason.ERROR, FinishReason.ABORT):
            self._fail(failure(output))
            return
        if choice.awaits_prompt_logprobs:
            self._held.append(output)
            return
        self._take(choice, output)
        if output.prompt_logprobs:
            self._share(choice, output.prompt_logprobs)
        if not self._open and not (self.timings.finished or self._error is not None):
            self._finish()

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
            completion_tokens_details=self._details(),
        )

    def _details(self) -> CompletionTokensDetails | UnsetType:
        thoughts = [choice.thought for choice in self._choices if choice.thought is not None]
        if not thoughts:
            return UNSET
        return CompletionTokensDetails(sum(thought.num_tokens for thought in thoughts))

    def report(self) -> GenerationReport:
        """Return what was generated. A choice that is open ended by error, or was abandoned."""
        usage = self.usage()
        cut_off = FinishReason.ERROR if self._error is not None else FinishReason.ABORT
        return GenerationReport(
            num_prompt_tokens=usage.prompt_tokens,
            num_cached_tokens=usage.prompt_tokens_details.cached_tokens,
            num_output_tokens=usage.completion_tokens,
            finish_reasons=[(choice.finish_reason or cut_off).value for choice in self._choices],
            timings=self.timings,
            error=self._error.code or "" if self._error is not None else "",
        )

    def _take(self, choice: Choice, output: SeqOutput) -> None:
        """Write what an output adds to its choice."""
        if not self.timings.first_token and output.token_ids:
            self.timings.first_token = time.monotonic()
        try:
            text, tokens = choice.push(output)
        except RepeatedName as error:
            self._fail(ApiError(500, str(error), code="schema_broken"))
            return
        except Exception:
            # The caller reads for all requests; a fault of this one must not reach it.
            logger.exception("seq_id=%d tokens cannot be turned into text", output.seq_id)
            self._fail(engine_failed("The server failed to turn tokens into text."))
            return
        if choice.finish_reason is not None:
            del self._open[output.seq_id]
            if output.finish_reason is None:  # a stop string: the engine does not know
                self._pool.abort(output.seq_id)
        if text or tokens or choice.finish_reason is not None:
            self._sink.write(choice, text, tokens)

    def _share(self, source: Choice, prompt_logprobs: Sequence[TokenLogprobs]) -> None:
        """Write a prompt's logprobs for its other choices, and what waited for the last of them."""
        for choice in self._choices:
            if choice.prompt_logprobs_from is source:
                self._sink.write(choice, "", choice.prompt_tokens(prompt_logprobs))
                if choice.is_local and not choice.awaits_prompt_logprobs:
                    self._end_locally(choice)
        held, self._held = self._held, []
        for output in held:
            self.receive(output)

    def _end_locally(self, choice: Choice) -> None:
        """End a choice without output tokens, for which the engine is not asked."""
        choice.finish_reason = FinishReason.LENGTH
        self._sink.write(choice, "", ())

    def _parts(self) -> Iterable[Choice]:
        return (choice for choice in self._choices if not choice.is_local)

    def _submit(self, part: Choice) -> int:
        return self._pool.submit(part.prompt.token_ids, part.params, self, self._options)

    def _begin(self) -> None:
        """Write what is known before the first token."""
        for choice in self._choices:
            text, tokens = choice.begin()
            if text or tokens:
                self._sink.write(choice, text, tokens)
            if choice.is_local and not choice.awaits_prompt_logprobs:
                self._end_locally(choice)
        if not self._open:
            self._finish()

    def _finish(self) -> None:
        self._note_end()
        self._sink.finish(self.usage())

    def _tell(self, error: ApiError) -> None:
        self._sink.fail(error)
