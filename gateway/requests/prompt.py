"""Prompts become token ids that the model can take: tokenised, in its vocabulary, short enough.

Owns the order of the checks of prompts, and what is echoed of them. Must not know HTTP or
sequences. Called by encoded_request.py, once a request, before anything is submitted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from gateway.errors import invalid
from gateway.requests.context_length import ContextLength
from gateway.requests.infill import infill_ids
from gateway.requests.limits import check_num_choices, check_num_logprobs
from gateway.requests.text_request import PlainPrompts, TextRequest
from gateway.requests.token_ids import check_token_ids
from gateway.schema.sampling import given
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

# More characters or ids are tokenised in a thread. 2,000 characters are about 500 tokens, which
# take 0.6 ms at 1.3 us a token.
MAX_INLINE_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Prompt:
    """One tokenised prompt.

    echo: the text put in front of each of its choices.
    offsets: where in `echo` each token begins, characters; empty if nobody asks.
    is_continued: the answer goes on where it ends, maybe within a character.
    """

    token_ids: list[int]
    echo: str = ""
    offsets: Sequence[int] = ()
    is_continued: bool = True


async def encode_prompts(
    request: TextRequest, plain: PlainPrompts, max_tokens: int, service: Service
) -> list[Prompt]:
    """Tokenise and check the prompts of a request, off the event loop if that takes long.

    plain: the request's source; max_tokens: of output per choice.
    Raises ApiError 400 for the first prompt that cannot be completed.
    """
    prompts, suffix = plain.prompts, plain.suffix
    check_num_choices(len(prompts), request.num_candidates, service.limits, request.fields)
    context = ContextLength(service.pool)
    for prompt in prompts:
        if isinstance(prompt, str):
            context.check_texts([prompt, suffix], service.tokenizer, max_tokens, request)
    encoder = _PromptEncoder(request, plain, max_tokens, service, context)
    if sum(map(len, prompts)) + len(suffix) > MAX_INLINE_LENGTH:
        encoded = await asyncio.to_thread(encoder.encode_all, prompts)
    else:
        encoded = encoder.encode_all(prompts)
    num_logprobs = 0
    if request.prompt_logprobs is not None:
        num_prompt_tokens = sum(len(prompt.token_ids) for prompt in encoded)
        num_logprobs += num_prompt_tokens * (request.prompt_logprobs + 1)
    if request.logprobs is not None:
        num_logprobs += len(prompts) * max_tokens * (request.logprobs + 1)
    param = "logprobs" if request.fields.prompt_logprobs is None else "prompt_logprobs"
    check_num_logprobs(num_logprobs * request.num_candidates, service.limits, param)
    return encoded


class _PromptEncoder:
    """Tokenises the prompts of one request."""

    def __init__(
        self,
        request: TextRequest,
        plain: PlainPrompts,
        max_tokens: int,
        service: Service,
        context: ContextLength,
    ) -> None:
        self._request = request
        self._fields = request.fields
        self._plain = plain
        self._max_tokens = max_tokens
        self._tokenizer = service.tokenizer
        self._vocab_size = service.vocab_size
        self._is_continued = not service.has_encoder
        self._context = context

    def encode_all(self, prompts: Sequence[str | list[int]]) -> list[Prompt]:
        """Return the prompts. Raises ApiError 400 for the first that cannot be completed."""
        return [self._encode(prompt) for prompt in prompts]

    def _encode(self, prompt: str | list[int]) -> Prompt:
        request, plain, max_tokens = self._request, self._plain, self._max_tokens
        try:
            if isinstance(prompt, str):
                all_ids = self._text_ids(prompt)
            else:
                all_ids = self._given_ids(prompt)
            if plain.suffix:
                all_ids = infill_ids(all_ids, plain.suffix, self._tokenizer)
        except TokenizerError as error:
            raise invalid(f"Invalid 'prompt': {error}.", "prompt") from None
        token_ids = self._context.truncate(all_ids, max_tokens, request)
        self._context.check(len(token_ids), max_tokens, request)
        if not plain.is_echoed:
            return Prompt(token_ids, is_continued=self._is_continued)
        is_complete = len(token_ids) == len(all_ids)
        if isinstance(prompt, str) and is_complete:
            echo = prompt
        else:
            shown = prompt if isinstance(prompt, list) and is_complete else token_ids
            skips = self._fields.skips_special_tokens
            echo = self._tokenizer.decode(shown, skip_special_tokens=skips)
        if request.prompt_logprobs is None:
            return Prompt(token_ids, echo, is_continued=self._is_continued)
        return Prompt(token_ids, echo, self._offsets(token_ids, echo))

    def _text_ids(self, text: str) -> list[int]:
        adds_special = given(self._fields.add_special_tokens, True)
        token_ids = self._tokenizer.encode(text, add_special_tokens=adds_special)
        if token_ids or self._plain.suffix:
            return token_ids
        if self._tokenizer.bos_token_id is None:
            message = "The prompt is empty, and this model has no token to begin a text with."
            raise invalid(message, "prompt", "empty_string")
        return [self._tokenizer.bos_token_id]

    def _given_ids(self, token_ids: list[int]) -> list[int]:
        if not token_ids:
            message = "Invalid 'prompt': an array of token ids is empty."
            raise invalid(message, "prompt", "empty_array")
        check_token_ids(token_ids, self._vocab_size, "prompt")
        return token_ids

    def _offsets(self, token_ids: list[int], echo: str) -> Sequence[int]:
        """Find where in the echo each token begins.

        The echo of a text is that text: it may spell special tokens, and lacks those that were put
        in front of it.
        """
        skips = self._fields.skips_special_tokens
        for skip_special_tokens in (skips, not skips):
            detokenizer = self._tokenizer.detokenizer(skip_special_tokens=skip_special_tokens)
            ends = list(accumulate(len(detokenizer.push(token_id)) for token_id in token_ids))
            length = ends[-1] + len(detokenizer.flush())
            if length >= len(echo):
                break
        in_front = max(0, length - len(echo))
        return [min(max(0, start - in_front), len(echo)) for start in [0, *ends[:-1]]]
