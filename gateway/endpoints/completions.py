"""POST /v1/completions: from a body to submitted sequences, and their text back.

Owns what an answer looks like, streamed and whole. Must not know how prompts become tokens
(prompt.py), how fields become parameters (parameters.py) nor how tokens become text (choice.py).
"""

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.choice import Choice, Token, make_choices
from gateway.answers.delivery import Collector, respond
from gateway.answers.generation import Generation
from gateway.answers.logprobs import completion_logprobs, mean_logprob, prompt_logprobs
from gateway.answers.sse import ChunkTemplate, EventQueue, event
from gateway.errors import ApiError
from gateway.requests.parameters import sampling_params
from gateway.requests.parsed_request import take
from gateway.requests.prompt import encode_prompts
from gateway.schema.completions import Completion, CompletionChoice, CompletionRequest
from gateway.schema.usage import Usage
from gateway.service import Service

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

_decoder = msgspec.json.Decoder(CompletionRequest)


async def create_completion(request: Request) -> Response:
    """Complete every prompt n times, streamed or in one answer."""
    service: Service = request.app.state.service
    intake = await take(request, _decoder)
    asked = intake.asked
    prompts = await encode_prompts(asked, service)
    is_ranked = asked.num_candidates > asked.num_choices
    params = await sampling_params(
        asked,
        service,
        max_tokens=asked.max_output_tokens,
        logprobs=0 if is_ranked and asked.logprobs is None else asked.logprobs,
        prompt_logprobs=asked.num_prompt_scores,
    )
    choices = make_choices(prompts, params, asked.num_candidates, asked, service.tokenizer)
    look = CompletionFormatter(asked, service.tokenizer)
    head = Completion(
        id=f"cmpl-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=asked.model,
        system_fingerprint=service.system_fingerprint,
        choices=[],
    )
    return await respond(
        request,
        intake,
        choices,
        chunks=lambda queue: _Chunks(head, look, queue),
        whole=lambda collector: _whole(head, look, _best(choices, collector, asked), collector),
    )


def _whole(
    head: Completion, look: "CompletionFormatter", choices: Sequence[Choice], collector: Collector
) -> Completion:
    """Return the answer in one piece."""
    written = [
        look.choice(
            choice,
            "".join(collector.texts[choice.index]),
            collector.tokens[choice.index],
            index,
            is_first=True,
        )
        for index, choice in enumerate(choices)
    ]
    return msgspec.structs.replace(head, choices=written, usage=collector.usage)


def _best(
    candidates: Sequence[Choice], collector: Collector, asked: CompletionRequest
) -> list[Choice]:
    """Choose among the candidates of each prompt those that go into the answer, best first."""
    if asked.num_candidates == asked.num_choices:
        return list(candidates)
    best: list[Choice] = []
    for first in range(0, len(candidates), asked.num_candidates):
        of_prompt = candidates[first : first + asked.num_candidates]
        means = {choice.index: mean_logprob(collector.tokens[choice.index]) for choice in of_prompt}
        ranked = sorted(of_prompt, key=lambda choice: -means[choice.index])
        best += ranked[: asked.num_choices]
    return best


class CompletionFormatter:
    """Writes choices, and pieces of them, the way a request wants to see them."""

    def __init__(self, asked: CompletionRequest, tokenizer: "Tokenizer") -> None:
        self.include_usage = asked.include_usage
        self.has_continuous_usage = asked.has_continuous_usage
        self.is_plain = not (asked.return_token_ids or asked.has_continuous_usage)
        self._asked = asked
        self._tokenizer = tokenizer

    def choice(
        self, choice: Choice, text: str, tokens: Sequence[Token], index: int, *, is_first: bool
    ) -> CompletionChoice:
        """Return a choice or a piece of one. is_first: nothing of it was written before."""
        asked, tokenizer = self._asked, self._tokenizer
        ended = choice.finish_reason
        of_prompt = [token for token in tokens if token.is_prompt]
        of_answer = [token for token in tokens if not token.is_prompt]
        logprobs = None
        if asked.logprobs is not None:
            scored = tokens if asked.echo else of_answer
            logprobs = completion_logprobs(scored, asked.logprobs, tokenizer)
        shows_ids = bool(asked.return_token_ids)
        wanted = asked.prompt_logprobs
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


class _Chunks:
    """The sink of a streamed answer: text becomes framed chunks at once."""

    generation: Generation

    def __init__(self, head: Completion, look: CompletionFormatter, queue: EventQueue) -> None:
        self._head = msgspec.structs.replace(head, usage=None) if look.include_usage else head
        self._look = look
        self._queue = queue
        self._templates: dict[int, ChunkTemplate] = {}  # by choice
        self._begun: set[int] = set()

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Send a chunk: around its text only, unless the request wants to see more."""
        index = choice.index
        if self._look.is_plain and not tokens and choice.finish_reason is None:
            template = self._templates.get(index)
            if template is None:
                chunk = self._chunk([CompletionChoice("", index)])
                template = self._templates[index] = ChunkTemplate(chunk)
            self._queue.put(template.event(text))
            return
        is_first = index not in self._begun
        self._begun.add(index)
        chunk = self._chunk([self._look.choice(choice, text, tokens, index, is_first=is_first)])
        if self._look.has_continuous_usage:
            chunk = msgspec.structs.replace(chunk, usage=self.generation.usage())
        self._put(chunk)

    def finish(self, usage: Usage) -> None:
        """Send the token counts if they are wanted, and end the stream."""
        if self._look.include_usage:
            self._put(msgspec.structs.replace(self._head, usage=usage))
        self._queue.end()

    def fail(self, error: ApiError) -> None:
        """Break the stream off with an error event."""
        self._queue.fail(error.body())

    def _put(self, chunk: Completion) -> None:
        self._queue.put(event(msgspec.json.encode(chunk)))

    def _chunk(self, choices: list[CompletionChoice]) -> Completion:
        return msgspec.structs.replace(self._head, choices=choices)
