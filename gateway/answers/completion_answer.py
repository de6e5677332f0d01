"""What an answer to /v1/completions looks like, whole and streamed.

Must not know how prompts become tokens nor how tokens become text. Called by
endpoints/completions.py; its sibling for chats is chat_answer.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from gateway.answers.choice import Choice, Token
from gateway.answers.delivery import Collector
from gateway.answers.generation import Generation
from gateway.answers.logprobs import completion_logprobs, mean_logprob, prompt_logprobs
from gateway.answers.sse import ChunkTemplate, EventQueue, event
from gateway.errors import ApiError
from gateway.schema.completions import Completion, CompletionChoice, CompletionRequest
from gateway.schema.usage import Usage

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


class CompletionFormatter:
    """Writes choices, and pieces of them, the way a request wants to see them."""

    def __init__(self, request: CompletionRequest, tokenizer: "Tokenizer") -> None:
        self.include_usage = request.include_usage
        self.has_continuous_usage = request.has_continuous_usage
        self.is_plain = not (request.return_token_ids or request.has_continuous_usage)
        self._request = request
        self._tokenizer = tokenizer

    def choice(
        self, choice: Choice, text: str, tokens: Sequence[Token], index: int, *, is_first: bool
    ) -> CompletionChoice:
        """Return a choice or a piece of one. is_first: nothing of it was written before."""
        request, tokenizer = self._request, self._tokenizer
        ended = choice.finish_reason
        of_prompt = [token for token in tokens if token.is_prompt]
        of_answer = [token for token in tokens if not token.is_prompt]
        logprobs = None
        if request.logprobs is not None:
            listed = tokens if request.echo else of_answer
            logprobs = completion_logprobs(listed, request.logprobs, tokenizer)
        shows_ids = bool(request.return_token_ids)
        wanted = request.prompt_logprobs
        return CompletionChoice(
            text,
            index,
            logprobs,
            None if ended is None else ended.value,
            UNSET if ended is None else choice.stop_reason,
            UNSET if wanted is None else prompt_logprobs(of_prompt, wanted, tokenizer),
            [token.token_id for token in of_answer] if shows_ids else UNSET,
            choice.prompt.token_ids if shows_ids and is_first else UNSET,
        )

    def response(
        self, base: Completion, candidates: Sequence[Choice], collector: Collector
    ) -> Completion:
        """Return the answer in one piece; of best_of candidates the best."""
        written = [
            self.choice(
                choice,
                "".join(collector.texts[choice.index]),
                collector.tokens[choice.index],
                index,
                is_first=True,
            )
            for index, choice in enumerate(_best(candidates, collector, self._request))
        ]
        return msgspec.structs.replace(base, choices=written, usage=collector.usage)


class CompletionChunks:
    """The sink of a streamed answer: text becomes framed chunks at once."""

    generation: Generation

    def __init__(self, base: Completion, formatter: CompletionFormatter, queue: EventQueue) -> None:
        self._base = msgspec.structs.replace(base, usage=None) if formatter.include_usage else base
        self._formatter = formatter
        self._queue = queue
        self._templates: dict[int, ChunkTemplate] = {}  # by choice
        self._begun: set[int] = set()

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Send a chunk: around its text only, unless the request wants to see more."""
        index = choice.index
        if self._formatter.is_plain and not tokens and choice.finish_reason is None:
            template = self._templates.get(index)
            if template is None:
                chunk = self._chunk([CompletionChoice("", index)])
                template = self._templates[index] = ChunkTemplate(chunk)
            self._queue.put(template.event(text))
            return
        is_first = index not in self._begun
        self._begun.add(index)
        chunk = self._chunk(
            [self._formatter.choice(choice, text, tokens, index, is_first=is_first)]
        )
        if self._formatter.has_continuous_usage:
            chunk = msgspec.structs.replace(chunk, usage=self.generation.usage())
        self._put(chunk)

    def finish(self, usage: Usage) -> None:
        """Send the token counts if they are wanted, and end the stream."""
        if self._formatter.include_usage:
            self._put(msgspec.structs.replace(self._base, usage=usage))
        self._queue.end()

    def fail(self, error: ApiError) -> None:
        """Break the stream off with an error event."""
        self._queue.fail(error.body())

    def _put(self, chunk: Completion) -> None:
        self._queue.put(event(msgspec.json.encode(chunk)))

    def _chunk(self, choices: list[CompletionChoice]) -> Completion:
        return msgspec.structs.replace(self._base, choices=choices)


def _best(
    candidates: Sequence[Choice], collector: Collector, request: CompletionRequest
) -> list[Choice]:
    """Choose among the candidates of each prompt those that go into the answer, best first."""
    if request.num_candidates == request.num_choices:
        return list(candidates)
    best: list[Choice] = []
    for first in range(0, len(candidates), request.num_candidates):
        of_prompt = candidates[first : first + request.num_candidates]
        means = {choice.index: mean_logprob(collector.tokens[choice.index]) for choice in of_prompt}
        ranked = sorted(of_prompt, key=lambda choice: -means[choice.index])
        best += ranked[: request.num_choices]
    return best
