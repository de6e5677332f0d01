"""Prompts become token ids that the model can take: tokenised, in its vocabulary, short enough.

Owns every check of prompts that needs the tokenizer or the model's sizes. Must not know HTTP or
sequences. Called by the endpoints, once a request, before anything is submitted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from gateway.errors import invalid
from gateway.requests.infill import infill_ids
from gateway.schema.completions import CompletionRequest
from gateway.schema.sampling import SamplingFields, given
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

# Characters or ids; more are tokenised in a thread. 2,000 characters are about 500 tokens and,
# at 1.3 us a token, 0.6 ms.
MAX_INLINE_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Prompt:
    """One tokenised prompt.

    echo: the text put in front of each of its choices.
    offsets: where in `echo` each token begins, characters; empty if nobody asks.
    """

    token_ids: list[int]
    echo: str = ""
    offsets: Sequence[int] = ()


async def encode_prompts(request: CompletionRequest, service: Service) -> list[Prompt]:
    """Tokenise and check the prompts of a request, off the event loop if that takes long.

    Raises ApiError 400 for the first prompt that cannot be completed.
    """
    prompts = request.prompts()
    check_num_choices(len(prompts), request.num_candidates, service, request)
    suffix = request.suffix or ""
    for prompt in prompts:
        if isinstance(prompt, str):
            check_text_length([prompt, suffix], request.max_output_tokens, service, request)
    length = sum(map(len, prompts)) + len(suffix)
    if length > MAX_INLINE_LENGTH:
        encoded = await asyncio.to_thread(_encode_all, prompts, request, service)
    else:
        encoded = _encode_all(prompts, request, service)
    num_prompt_tokens = sum(len(prompt.token_ids) for prompt in encoded)
    num_scores = 0
    if request.num_prompt_logprobs is not None:
        num_scores += num_prompt_tokens * (request.num_prompt_logprobs + 1)
    if request.logprobs is not None:
        num_scores += len(prompts) * request.max_output_tokens * (request.logprobs + 1)
    param = "logprobs" if request.prompt_logprobs is None else "prompt_logprobs"
    check_num_scores(num_scores * request.num_candidates, param, service)
    return encoded


def check_num_choices(
    num_prompts: int, num_candidates: int, service: Service, request: SamplingFields
) -> None:
    """Refuse more sequences than one request may have."""
    num_choices = num_prompts * num_candidates
    if num_choices <= service.limits.max_choices:
        return
    name = "best_of" if num_candidates > request.num_choices else "n"
    raise invalid(
        f"This request asks for {num_choices} choices ({num_prompts} prompts with "
        f"{name} = {num_candidates}); at most {service.limits.max_choices} are answered at once.",
        name if num_candidates > 1 else "prompt",
    )


def check_num_scores(num_scores: int, param: str, service: Service) -> None:
    """Refuse more log-probabilities than are kept for one request."""
    if num_scores > service.limits.max_scores:
        raise invalid(
            f"This request asks for up to {num_scores} log-probabilities (tokens times "
            f"alternatives, over all choices); at most {service.limits.max_scores} are computed at "
            "once.",
            param,
        )


def check_length(
    num_prompt_tokens: int,
    max_tokens: int,
    service: Service,
    request: SamplingFields,
    *,
    is_exact: bool = True,
) -> None:
    """Refuse what can never run, so that it cannot wait in a queue for ever.

    is_exact: false if the prompt may well have more tokens.
    """
    num_tokens = num_prompt_tokens + max_tokens
    max_model_len = service.pool.max_model_len
    if num_tokens <= context_length(service):
        return
    if num_tokens > max_model_len:
        limit = f"This model's maximum context length is {max_model_len} tokens"
    else:
        limit = f"This server's memory holds {context_length(service)} tokens of one request"
    least = "" if is_exact else "at least "
    is_prompt_alone = (
        num_prompt_tokens > context_length(service) or request.max_output_tokens is None
    )
    raise invalid(
        f"{limit}, however you requested {least}{num_tokens} tokens ({least}{num_prompt_tokens} in "
        f"your prompt; {max_tokens} for the completion). Please shorten the prompt or the "
        "completion.",
        request.prompt_field if is_prompt_alone else request.max_tokens_field,
        "context_length_exceeded",
    )


def check_text_length(
    texts: Sequence[str], max_tokens: int, service: Service, request: SamplingFields
) -> None:
    """Refuse a prompt, in one or more texts, that is too long however it is cut into tokens.

    Before it is cut: 10 MiB take seconds.
    """
    if request.truncate_prompt_tokens is None:
        num_tokens = sum(map(service.tokenizer.min_num_tokens, texts))
        check_length(num_tokens, max_tokens, service, request, is_exact=False)


def context_length(service: Service) -> int:
    """Return how many tokens one sequence may have, prompt and answer together."""
    max_model_len = service.pool.max_model_len
    return min(max_model_len, service.pool.kv_capacity_tokens or max_model_len)


def truncated(
    token_ids: list[int], request: SamplingFields, max_tokens: int, service: Service
) -> list[int]:
    """Return the last tokens of a prompt, as many as truncate_prompt_tokens leaves."""
    keep = given(request.truncate_prompt_tokens, len(token_ids))
    if keep < 0:
        keep = max(1, context_length(service) - max_tokens)
    return token_ids[-keep:] if keep < len(token_ids) else token_ids


def check_token_ids(token_ids: Sequence[int], service: Service, param: str) -> None:
    """Refuse ids that are not in the vocabulary, naming the first."""
    vocab_size = service.vocab_size
    if not token_ids or (min(token_ids) >= 0 and max(token_ids) < vocab_size):
        return
    position, bad_id = next(
        (i, token_id) for i, token_id in enumerate(token_ids) if not 0 <= token_id < vocab_size
    )
    raise invalid(
        f"Invalid '{param}': token id {bad_id} at position {position} is not in the vocabulary; "
        f"ids go from 0 to {vocab_size - 1}.",
        param,
        "invalid_token_id",
    )


def _encode_all(
    prompts: Sequence[str | list[int]], request: CompletionRequest, service: Service
) -> list[Prompt]:
    return [_encode(prompt, request, service) for prompt in prompts]


def _encode(prompt: str | list[int], request: CompletionRequest, service: Service) -> Prompt:
    max_tokens = request.max_output_tokens
    try:
        if isinstance(prompt, str):
            whole = _text_ids(prompt, request, service)
        else:
            whole = _given_ids(prompt, service)
        if request.suffix:
            whole = infill_ids(whole, request.suffix, service.tokenizer)
    except TokenizerError as error:
        raise invalid(f"Invalid 'prompt': {error}.", "prompt") from None
    token_ids = truncated(whole, request, max_tokens, service)
    check_length(len(token_ids), max_tokens, service, request)
    if not request.echo:
        return Prompt(token_ids)
    if isinstance(prompt, str) and len(token_ids) == len(whole):
        echo = prompt
    else:
        shown = prompt if isinstance(prompt, list) and len(token_ids) == len(whole) else token_ids
        echo = service.tokenizer.decode(shown, skip_special_tokens=request.skips_special_tokens)
    if request.num_prompt_logprobs is None:
        return Prompt(token_ids, echo)
    return Prompt(token_ids, echo, _offsets(token_ids, echo, request, service))


def _text_ids(text: str, request: CompletionRequest, service: Service) -> list[int]:
    tokenizer = service.tokenizer
    token_ids = tokenizer.encode(text, add_special_tokens=given(request.add_special_tokens, True))
    if token_ids or request.suffix:
        return token_ids
    if tokenizer.bos_token_id is None:
        message = "The prompt is empty, and this model has no token to begin a text with."
        raise invalid(message, "prompt", "empty_string")
    return [tokenizer.bos_token_id]


def _given_ids(token_ids: list[int], service: Service) -> list[int]:
    if not token_ids:
        message = "Invalid 'prompt': an array of token ids is empty."
        raise invalid(message, "prompt", "empty_array")
    check_token_ids(token_ids, service, "prompt")
    return token_ids


def _offsets(
    token_ids: list[int], echo: str, request: CompletionRequest, service: Service
) -> Sequence[int]:
    """Find where in the echo each token begins.

    The echo of a text is that text: it may spell special tokens, and lacks those that were put in
    front of it.
    """
    for skip_special_tokens in (request.skips_special_tokens, not request.skips_special_tokens):
        detokenizer = service.tokenizer.detokenizer(skip_special_tokens=skip_special_tokens)
        ends = list(accumulate(len(detokenizer.push(token_id)) for token_id in token_ids))
        length = ends[-1] + len(detokenizer.flush())
        if length >= len(echo):
            break
    in_front = max(0, length - len(echo))
    return [min(max(0, start - in_front), len(echo)) for start in [0, *ends[:-1]]]
