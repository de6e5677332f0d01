"""The fields of a request become the SamplingParams of its choices.

Owns the checks that need the model's vocabulary, and bad words as tokens. Must not know prompts,
pools or HTTP. Called by the endpoints that generate, once a request.
"""

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from backend.wire.sampling import Grammar, NumLogprobs, SamplingParams
from gateway.errors import invalid
from gateway.requests.grammars import grammar_of, not_enforced_header, validated_grammar
from gateway.requests.token_ids import check_token_ids
from gateway.sampling_defaults import SamplingDefaults
from gateway.schema.sampling import SamplingFields, given
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

if TYPE_CHECKING:
    from gateway.sandbox.grammar_validator import GrammarValidator
    from gateway.text.tokenizer import Tokenizer

DEFAULTS = SamplingParams()
# As in vLLM: logits divided by less could leave float32, and the draw is greedy by then.
MIN_TEMPERATURE = 1e-5
# The wire carries 64-bit integers and no vocabulary is larger, so more means the same.
LARGEST_TOP_K = 2**31 - 1
# Longer than any token id; int() of a long string of digits takes quadratic time.
MAX_ID_DIGITS = 10
# More bad words are tokenised in a thread: each takes about 20 us, twice.
MAX_INLINE_BAD_WORDS = 16


async def sampling_params(
    request: SamplingFields,
    service: Service,
    *,
    max_tokens: int,
    logprobs: NumLogprobs | None,
    prompt_logprobs: NumLogprobs | None = None,
    headers: dict[str, str] | None = None,
) -> SamplingParams:
    """Return what all choices share; seeded_params() tells them apart.

    headers: of the answer; what of a schema is not enforced is added to them.
    Raises ApiError 400 for what this model cannot do, a grammar that does not compile included.
    """
    if prompt_logprobs is not None and service.has_encoder:
        message = "Prompts of this model have no log-probabilities: an encoder reads them whole."
        param = "logprobs" if request.prompt_logprobs is None else "prompt_logprobs"
        raise invalid(message, param, "unsupported_parameter")
    stop_token_ids, allowed = request.stop_token_ids or [], request.allowed_token_ids
    check_token_ids(stop_token_ids, service.vocab_size, "stop_token_ids")
    check_token_ids(allowed or [], service.vocab_size, "allowed_token_ids")
    bad_words = request.bad_words or []
    if len(bad_words) > MAX_INLINE_BAD_WORDS:
        banned = await asyncio.to_thread(_bad_words, bad_words, service.tokenizer)
    else:
        banned = _bad_words(bad_words, service.tokenizer)
    grammar, not_enforced = await _grammar(request, service.grammar_validator)
    if headers is not None:
        headers |= not_enforced_header(not_enforced)
    said = _Said(request, service.sampling_defaults)
    temperature = said("temperature")
    return SamplingParams(
        temperature=temperature if temperature >= MIN_TEMPERATURE else 0.0,
        top_p=said("top_p"),
        top_k=min(int(said("top_k")), LARGEST_TOP_K),
        min_p=said("min_p"),
        max_tokens=max_tokens,
        ignore_eos=bool(request.ignore_eos),
        min_tokens=given(request.min_tokens, DEFAULTS.min_tokens),
        stop_token_ids=tuple(stop_token_ids),
        presence_penalty=said("presence_penalty"),
        frequency_penalty=said("frequency_penalty"),
        repetition_penalty=said("repetition_penalty"),
        no_repeat_ngram_size=int(said("no_repeat_ngram_size")),
        logit_bias=_logit_bias(
            request.logit_bias or {}, service.vocab_size, is_strict=service.strict
        ),
        allowed_token_ids=None if allowed is None else tuple(dict.fromkeys(allowed)),
        bad_words=banned,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=grammar,
    )


def seeded_params(
    shared: SamplingParams, seed: int | None, num_candidates: int
) -> list[SamplingParams]:
    """Return the parameters of each sequence of a prompt. Only the first has prompt_logprobs.

    A missing seed is drawn here, once per call: the same prompt twice in a request differs.
    """
    seed = given(seed, secrets.randbits(63))
    first = msgspec.structs.replace(shared, seed=seed, choice=0)
    return [first] + [
        msgspec.structs.replace(first, choice=choice, prompt_logprobs=None)
        for choice in range(1, num_candidates)
    ]


class _Said:
    """Looks a field up: as the request has it, else as this model's requests have it, else OpenAI.

    Fields have one name in all three.
    """

    def __init__(self, request: SamplingFields, defaults: SamplingDefaults) -> None:
        self._sources = (request, defaults, DEFAULTS)

    def __call__(self, name: str) -> float:
        values = (getattr(source, name) for source in self._sources)
        value: float = next(value for value in values if value is not None)
        return value


async def _grammar(
    request: SamplingFields, validator: "GrammarValidator | None"
) -> tuple[Grammar | None, Sequence[str]]:
    """Return what the answer must match, and what of that is not enforced."""
    if request.response_format is None and request.structured_outputs is None:
        return None, ()
    if validator is None:
        if grammar_of(request.response_format, request.structured_outputs) is None:
            return None, ()
        param = "response_format" if request.structured_outputs is None else "structured_outputs"
        message = f"'{param}' is not supported by this server."
        raise invalid(message, param, "unsupported_parameter")
    return await validated_grammar(request.response_format, request.structured_outputs, validator)


def _logit_bias(
    biases: dict[str, float], vocab_size: int, *, is_strict: bool
) -> tuple[tuple[int, float], ...]:
    """Return (token id, bias) pairs.

    A bias of 0 changes nothing, so unless strict its key is not looked at: test suites of clients
    send {"foo": 0}.
    """
    by_id: dict[int, float] = {}
    for key, bias in biases.items():
        if bias == 0 and not is_strict:
            continue
        is_number = key.isascii() and key.isdecimal() and len(key) <= MAX_ID_DIGITS
        if not is_number or int(key) >= vocab_size:
            raise invalid(
                f"Invalid 'logit_bias': the key '{key[:40]}' is not a token id; ids go from 0 to "
                f"{vocab_size - 1}.",
                "logit_bias",
                "invalid_token_id",
            )
        by_id[int(key)] = bias
    return tuple(by_id.items())


def _bad_words(words: list[str], tokenizer: "Tokenizer") -> tuple[tuple[int, ...], ...]:
    """Return the token sequences that spell the words: where a word begins, and elsewhere."""
    sequences: dict[tuple[int, ...], None] = {}
    for word in words:
        stem = word.lstrip() or word
        for text in (stem, " " + stem):
            try:
                token_ids = tokenizer.encode(text, add_special_tokens=False)
            except TokenizerError as error:
                raise invalid(f"Invalid 'bad_words': {error}.", "bad_words") from None
            if token_ids:
                sequences[tuple(token_ids)] = None
    return tuple(sequences)
