from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from backend.wire.sampling import Grammar, SamplingParams
from gateway.errors import ApiError
from gateway.requests.parameters import sampling_params, seeded_params
from gateway.sampling_defaults import SamplingDefaults
from gateway.sandbox.grammar_validator import GrammarValidator
from gateway.schema.completions import CompletionRequest
from gateway.service import Service
from tests.gateway.fakes import EOS, VOCAB_SIZE, FakePool, make_service

decode = msgspec.json.Decoder(CompletionRequest).decode


async def params_of(service: Service | None = None, **fields: Any) -> SamplingParams:
    asked = decode(msgspec.json.encode({"model": "m", "prompt": "p", **fields}))
    service = service or make_service(FakePool())
    max_tokens, logprobs = asked.max_output_tokens, asked.logprobs
    return await sampling_params(asked, service, max_tokens=max_tokens, logprobs=logprobs)


async def refusal_of(service: Service | None = None, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await params_of(service, **fields)
    assert refused.value.status == 400
    return refused.value


async def test_what_is_not_asked_for_is_the_default() -> None:
    assert (await params_of()) == SamplingParams()


async def test_every_field_of_the_request_reaches_its_parameter() -> None:
    plain: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "max_tokens": 5,
        "ignore_eos": True,
        "min_tokens": 2,
        "presence_penalty": 0.25,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.5,
        "no_repeat_ngram_size": 3,
        "logprobs": 4,
    }
    lists: dict[str, Any] = {
        "stop_token_ids": [7, 8],
        "allowed_token_ids": [5, 6, 5],
        "logit_bias": {"9": -100, "0": 1.5},
        "bad_words": ["ab"],
    }
    expected = SamplingParams(
        **plain,
        stop_token_ids=(7, 8),
        allowed_token_ids=(5, 6),
        logit_bias=((9, -100.0), (0, 1.5)),
        bad_words=((97, 98), (32, 97, 98)),
    )
    assert (await params_of(**plain, **lists)) == expected


async def test_models_default_counts_where_the_request_does_not_say() -> None:
    """The model's generation_config.json was ignored, so its first answers looked broken."""
    defaults = SamplingDefaults(
        temperature=0.25, top_p=0.75, top_k=20, min_p=0.125, repetition_penalty=1.5,
        presence_penalty=0.5, frequency_penalty=0.25, no_repeat_ngram_size=4,
    )  # fmt: skip
    service = replace(make_service(FakePool()), sampling_defaults=defaults)
    expected = {name: getattr(defaults, name) for name in defaults.__struct_fields__}
    del expected["max_new_tokens"]  # of a chat: a completion has OpenAI's 16
    assert (await params_of(service)) == SamplingParams(**expected)
    said: dict[str, Any] = {
        "temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1,
        "presence_penalty": 0, "frequency_penalty": 0, "no_repeat_ngram_size": 0,
    }  # fmt: skip
    assert (await params_of(service, **said)) == SamplingParams(temperature=0)
    nulls = dict.fromkeys(said)
    assert (await params_of(service, **nulls)) == SamplingParams(**expected)


async def test_zero_is_a_value_and_not_a_missing_one() -> None:
    params = await params_of(temperature=0, top_p=0, max_tokens=0)
    assert (params.temperature, params.top_p, params.max_tokens) == (0, 0, 0)


@pytest.mark.parametrize(("asked", "used"), [(5e-324, 0), (9e-6, 0), (1e-5, 1e-5), (2, 2)])
async def test_temperature_that_logits_cannot_be_divided_by_is_greedy(
    asked: float, used: float
) -> None:
    """5e-324 passes for zero in float32: the request ended with a 500."""
    assert (await params_of(temperature=asked)).temperature == used


async def test_top_k_beyond_any_vocabulary_still_fits_the_wire() -> None:
    params = await params_of(top_k=2**70)
    msgspec.msgpack.encode(params)
    assert params.top_k == 2**31 - 1


def test_choices_of_a_prompt_share_a_seed_but_no_number() -> None:
    params = seeded_params(SamplingParams(top_k=3), 0, 3)
    assert [(p.seed, p.choice, p.top_k) for p in params] == [(0, 0, 3), (0, 1, 3), (0, 2, 3)]


def test_missing_seed_is_drawn_for_each_prompt() -> None:
    first, second = (seeded_params(SamplingParams(), None, 2) for _ in range(2))
    assert first[0].seed == first[1].seed
    assert first[0].seed != second[0].seed


@pytest.mark.parametrize("field", ["stop_token_ids", "allowed_token_ids"])
@pytest.mark.parametrize("bad_id", [-1, VOCAB_SIZE, 2**31, 2**70])
async def test_ids_outside_the_vocabulary_are_refused(field: str, bad_id: int) -> None:
    fields: dict[str, Any] = {field: [1, bad_id]}
    error = await refusal_of(**fields)
    assert (error.param, error.code) == (field, "invalid_token_id")
    assert f"token id {bad_id} at position 1 " in error.message


@pytest.mark.parametrize("key", [str(VOCAB_SIZE), "-1", "foo", "", "1.0", "٣", "9" * 5000])
async def test_bias_of_something_that_is_no_token_is_refused(key: str) -> None:
    error = await refusal_of(logit_bias={key: 1})
    assert (error.param, error.code) == ("logit_bias", "invalid_token_id")
    assert len(error.message) < 150


async def test_bias_of_nothing_is_overlooked_unless_strict() -> None:
    assert (await params_of(logit_bias={"foo": 0, "5": 1})).logit_bias == ((5, 1.0),)
    strict = make_service(FakePool(), strict=True)
    assert (await refusal_of(strict, logit_bias={"foo": 0})).param == "logit_bias"


async def test_last_token_of_the_vocabulary_may_be_biased() -> None:
    assert (await params_of(logit_bias={str(EOS): -1})).logit_bias == ((EOS, -1.0),)


async def test_bad_words_are_banned_with_and_without_a_space_in_front() -> None:
    words = ["b", " b", " ", "b"]
    assert (await params_of(bad_words=words)).bad_words == ((98,), (32, 98), (32,), (32, 32))


async def test_as_many_bad_words_as_are_allowed_are_banned() -> None:
    words = [f"w{i}" for i in range(128)]
    assert len((await params_of(bad_words=words)).bad_words) == 256


class Upper:
    """A validator that submits another notation."""

    async def validate(self, grammar: Grammar) -> Grammar:
        return Grammar(grammar.kind, grammar.text.upper())


async def test_grammar_is_validated_and_what_that_returns_is_submitted() -> None:
    service = make_service(FakePool(), grammar_validator=cast(GrammarValidator, Upper()))
    grammar = (await params_of(service, structured_outputs={"regex": "a+"})).grammar
    assert grammar == Grammar("regex", "A+")


async def test_without_a_validator_only_plain_text_is_possible() -> None:
    assert (await params_of(response_format={"type": "text"})).grammar is None
    error = await refusal_of(response_format={"type": "json_object"})
    assert (error.param, error.code) == ("response_format", "unsupported_parameter")
    assert (await refusal_of(structured_outputs={"regex": "a"})).param == "structured_outputs"


async def test_prompts_that_an_encoder_reads_are_not_scored() -> None:
    service = make_service(FakePool(), has_encoder=True)
    for fields, param in (({"prompt_logprobs": 1}, "prompt_logprobs"), ({}, "logprobs")):
        asked = decode(msgspec.json.encode({"model": "m", "prompt": "p", **fields}))
        with pytest.raises(ApiError) as refused:
            await sampling_params(asked, service, max_tokens=1, logprobs=None, prompt_logprobs=1)
        assert (refused.value.status, refused.value.param) == (400, param)
