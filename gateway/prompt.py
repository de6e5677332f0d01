"""Prompts become token ids that the model can take: tokenised, in its vocabulary, short enough.

Owns every check that needs the tokenizer or the model's sizes. Must not know HTTP or sequences.
Called by the endpoints, once a request, before anything is submitted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import invalid
from gateway.schema import CompletionRequest
from gateway.service import Service
from gateway.tokenizer import TokenizerError

# Characters or ids; more are tokenised in a thread. 2,000 characters are about 500 tokens and,
# at 1.3 us a token, 0.6 ms.
MAX_INLINE_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Prompt:
    """One tokenised prompt. echo: the text put in front of each of its choices."""

    token_ids: list[int]
    echo: str = ""


async def encode_prompts(asked: CompletionRequest, service: Service) -> list[Prompt]:
    """Tokenise and check the prompts of a request, off the event loop if that takes long.

    Raises ApiError 400 for the first prompt that cannot be completed.
    """
    prompts = asked.prompts()
    num_choices = len(prompts) * asked.num_choices
    if num_choices > service.limits.max_choices:
        raise invalid(
            f"This request asks for {num_choices} choices ({len(prompts)} prompts with "
            f"n = {asked.num_choices}); at most {service.limits.max_choices} are answered at once.",
            "n" if asked.num_choices > 1 else "prompt",
        )
    if sum(map(len, prompts)) > MAX_INLINE_LENGTH:
        return await asyncio.to_thread(_encode_all, prompts, asked, service)
    return _encode_all(prompts, asked, service)


def _encode_all(
    prompts: Sequence[str | list[int]], asked: CompletionRequest, service: Service
) -> list[Prompt]:
    encoded = []
    for prompt in prompts:
        if isinstance(prompt, str):
            token_ids = _encode(prompt, service)
        else:
            _check_ids(prompt, service.vocab_size)
            token_ids = prompt
        _check_length(len(token_ids), asked.max_output_tokens, service)
        echo = _text(prompt, service) if asked.echo else ""
        encoded.append(Prompt(token_ids, echo))
    return encoded


def _encode(text: str, service: Service) -> list[int]:
    tokenizer = service.tokenizer
    try:
        token_ids = tokenizer.encode(text)
    except TokenizerError as error:
        raise invalid(f"Invalid 'prompt': {error}.", "prompt") from None
    if token_ids:
        return token_ids
    if tokenizer.bos_token_id is None:
        message = "The prompt is empty, and this model has no token to begin a text with."
        raise invalid(message, "prompt", "empty_string")
    return [tokenizer.bos_token_id]


def _text(prompt: str | list[int], service: Service) -> str:
    return prompt if isinstance(prompt, str) else service.tokenizer.decode(prompt)


def _check_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    if not token_ids:
        message = "Invalid 'prompt': an array of token ids is empty."
        raise invalid(message, "prompt", "empty_array")
    if min(token_ids) >= 0 and max(token_ids) < vocab_size:
        return
    position, bad_id = next(
        (i, token_id) for i, token_id in enumerate(token_ids) if not 0 <= token_id < vocab_size
    )
    raise invalid(
        f"Invalid 'prompt': token id {bad_id} at position {position} is not in the vocabulary; "
        f"ids go from 0 to {vocab_size - 1}.",
        "prompt",
        "invalid_token_id",
    )


def _check_length(num_prompt_tokens: int, max_tokens: int, service: Service) -> None:
    """Refuse what can never run, so that it cannot wait in a queue for ever."""
    num_tokens = num_prompt_tokens + max_tokens
    max_model_len = service.pool.max_model_len
    kv_capacity_tokens = service.pool.kv_capacity_tokens or num_tokens  # not known yet: no limit
    if num_tokens > max_model_len:
        limit = f"This model's maximum context length is {max_model_len} tokens"
    elif num_tokens > kv_capacity_tokens:
        limit = f"This server's memory holds {kv_capacity_tokens} tokens of one request"
    else:
        return
    raise invalid(
        f"{limit}, however you requested {num_tokens} tokens ({num_prompt_tokens} in your prompt; "
        f"{max_tokens} for the completion). Please shorten the prompt or the completion.",
        "prompt" if num_prompt_tokens > min(max_model_len, kv_capacity_tokens) else "max_tokens",
        "context_length_exceeded",
    )
