"""OpenAI's Completions: what their bodies mean, and what their answers look like.

Must not know how prompts become tokens nor how tokens become text. Its types are in
schema/completions.py.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from gateway.answer_events import AnswerEvent, PlainKind, TextDelta
from gateway.answers.answer_stream import PieceWriter
from gateway.answers.choice import Choice, Token
from gateway.answers.logprobs import completion_logprobs, mean_logprob, prompt_logprobs
from gateway.answers.sse import DONE, PING, ChunkTemplate, event
from gateway.answers.whole_answer import WholeChoice
from gateway.dialects.dialect import Dialect
from gateway.errors import ApiError
from gateway.requests.text_request import PlainPrompts, TextRequest
from gateway.schema.completions import Completion, CompletionChoice, CompletionRequest
from gateway.schema.usage import Usage
from gateway.service import Service

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


def read_completion(request: CompletionRequest) -> TextRequest:
    """Return what a completion asks for."""
    return TextRequest(
        source=PlainPrompts(
            prompts=request.prompts(), suffix=request.suffix or "", is_echoed=bool(request.echo)
        ),
        fields=request,
        max_tokens=request.max_output_tokens,
        num_candidates=request.num_candidates,
        logprobs=request.logprobs,
        prompt_logprobs=request.num_prompt_logprobs,
        is_streamed=bool(request.stream),
        prompt_field="prompt",
    )


class CompletionAnswer:
    """Writes the answer to one request the way it wants to see it."""

    def __init__(self, request: CompletionRequest, service: Service) -> None:
        self._request = request
        self._writer = _ChoiceWriter(request, service.tokenizer)
        self._base = Completion(
            id=f"cmpl-{secrets.token_hex(16)}",
            created=int(time.time()),
            model=request.model,
            system_fingerprint=service.system_fingerprint,
            choices=[],
        )

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Completion:
        """Return the answer in one piece; of best_of candidates the best."""
        written = [
            self._writer.choice(whole.choice, whole.text, whole.tokens, index, is_first=True)
            for index, whole in enumerate(_best(choices, self._request))
        ]
        return msgspec.structs.replace(self._base, choices=written, usage=usage)

    def stream(self) -> "CompletionStream":
        """Return what writes it as chunks."""
        return CompletionStream(self._base, self._request, self._writer)


class _ChoiceWriter:
    """Writes choices, and pieces of them, the way a request wants to see them."""

    def __init__(self, request: CompletionRequest, tokenizer: "Tokenizer") -> None:
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


class CompletionStream:
    """Writes the chunks of a streamed answer."""

    media_type = "text/event-stream"
    ping = PING
    usage: Callable[[], Usage]

    def __init__(
        self, base: Completion, request: CompletionRequest, writer: "_ChoiceWriter"
    ) -> None:
        self._base = msgspec.structs.replace(base, usage=None) if request.include_usage else base
        self._request = request
        self._writer = writer
        self._begun: set[int] = set()

    def begin(self, choice: Choice) -> bytes:
        """Nothing comes before the text."""
        return b""

    def writer(self, choice: Choice, kind: PlainKind) -> PieceWriter | None:
        """Return what writes a piece of text."""
        if self._request.return_token_ids or self._request.has_continuous_usage:
            return None
        return ChunkTemplate(self._chunk([CompletionChoice("", choice.index)]), "text").event

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Write a chunk."""
        text = "".join(piece.text for piece in events if isinstance(piece, TextDelta))
        index = choice.index
        is_first = index not in self._begun
        self._begun.add(index)
        written = self._writer.choice(choice, text, tokens, index, is_first=is_first)
        chunk = self._chunk([written])
        if self._request.has_continuous_usage:
            chunk = msgspec.structs.replace(chunk, usage=self.usage())
        return event(msgspec.json.encode(chunk))

    def finish(self, usage: Usage) -> bytes:
        """Write the token counts if they are wanted."""
        if not self._request.include_usage:
            return DONE
        return event(msgspec.json.encode(msgspec.structs.replace(self._base, usage=usage))) + DONE

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """Write an error object."""
        return event(error.body())

    def _chunk(self, choices: list[CompletionChoice]) -> Completion:
        return msgspec.structs.replace(self._base, choices=choices)


COMPLETIONS = Dialect(msgspec.json.Decoder(CompletionRequest), read_completion, CompletionAnswer)


def _best(candidates: Sequence[WholeChoice], request: CompletionRequest) -> list[WholeChoice]:
    """Choose among the candidates of each prompt those that go into the answer, best first."""
    if request.num_candidates == request.num_choices:
        return list(candidates)
    best: list[WholeChoice] = []
    for first in range(0, len(candidates), request.num_candidates):
        of_prompt = candidates[first : first + request.num_candidates]
        ranked = sorted(of_prompt, key=lambda whole: -mean_logprob(whole.tokens))
        best += ranked[: request.num_choices]
    return best
