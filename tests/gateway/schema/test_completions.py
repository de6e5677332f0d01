import msgspec
import pytest

from gateway.errors import ApiError
from gateway.schema.completions import CompletionRequest
from gateway.schema.guided import GuidedFields

decode = msgspec.json.Decoder(CompletionRequest).decode
OPTIONAL = [name for name in CompletionRequest.__struct_fields__ if name not in ("model", "prompt")]
OPENAI_FIELDS = """model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n
    presence_penalty seed stop stream stream_options suffix temperature top_p user""".split()
VLLM_FIELDS = """top_k min_p repetition_penalty no_repeat_ngram_size min_tokens ignore_eos
    stop_token_ids include_stop_str_in_output skip_special_tokens spaces_between_special_tokens
    add_special_tokens truncate_prompt_tokens allowed_token_ids bad_words prompt_logprobs
    return_token_ids priority cache_salt request_id timeout structured_outputs
    response_format""".split()


def request_of(**fields: object) -> CompletionRequest:
    return decode(msgspec.json.encode({"model": "m", "prompt": "p", **fields}))


def refusal_of(is_strict: bool = False, **fields: object) -> ApiError:
    with pytest.raises(ApiError) as refused:
        request_of(**fields).check(is_strict=is_strict)
    assert refused.value.status == 400
    return refused.value


def test_fields_are_openai_s_eighteen_and_vllm_s() -> None:
    assert len(OPENAI_FIELDS) == 18
    older = set(GuidedFields.__struct_fields__) - {"structured_outputs"}
    assert set(CompletionRequest.__struct_fields__) == {*OPENAI_FIELDS, *VLLM_FIELDS, *older}


def test_every_optional_field_accepts_null_as_its_default() -> None:
    request = request_of(**dict.fromkeys(OPTIONAL))
    request.check(is_strict=True)
    assert request == request_of()
    assert request.max_output_tokens == 16
    assert (request.num_choices, request.num_candidates) == (1, 1)
    assert request.stop_strings == ()
    assert request.num_prompt_logprobs is None


@pytest.mark.parametrize("stop", ["a", ["a"], ["a", "b", "c", "d"]])
def test_one_to_four_stop_strings_are_accepted(stop: str | list[str]) -> None:
    assert request_of(stop=stop).stop_strings == tuple(stop)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_prompt_has_four_forms(prompt: object, prompts: list[object]) -> None:
    assert request_of(prompt=prompt).prompts() == prompts


@pytest.mark.parametrize("prompt", [["a", 1], [1, [2]], ["a", [1]]])
def test_prompts_of_several_kinds_are_refused(prompt: object) -> None:
    with pytest.raises(ApiError) as refused:
        request_of(prompt=prompt).prompts()
    assert (refused.value.param, refused.value.code) == ("prompt", "invalid_type")


@pytest.mark.parametrize(
    ("fields", "num_candidates"),
    [
        ({"best_of": 0}, 1),
        ({"best_of": 1}, 1),
        ({"best_of": 3}, 3),
        ({"best_of": 2, "n": 2}, 2),
        ({"n": 128}, 128),
        ({"best_of": 1, "stream": True}, 1),
        ({"best_of": 2, "n": 2, "stream": True}, 2),
    ],
)
def test_best_of_is_the_number_of_candidates(fields: dict[str, int], num_candidates: int) -> None:
    request = request_of(**fields)
    request.check(is_strict=True)
    assert request.num_candidates == num_candidates


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"min_tokens": 17}, "min_tokens"),
        ({"min_tokens": 4, "max_tokens": 3}, "min_tokens"),
        ({"min_tokens": 1, "max_tokens": 0}, "min_tokens"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"prompt_logprobs": 0, "stream": True}, "prompt_logprobs"),
    ],
)
@pytest.mark.parametrize("is_strict", [False, True])
def test_fields_that_contradict_each_other_are_refused(
    fields: dict[str, int], param: str, is_strict: bool
) -> None:
    error = refusal_of(is_strict, **fields)
    assert error.param == param
    assert f"'{param}'" in error.message


@pytest.mark.parametrize("stream", [{}, {"stream": False}, {"stream": None}])
def test_stream_options_belong_to_a_stream(stream: dict[str, bool | None]) -> None:
    """They were ignored, with a 200."""
    options = {"include_usage": True, "include_obfuscation": True}
    assert refusal_of(False, stream_options=options, **stream).param == "stream_options"
    assert refusal_of(False, stream_options={}, **stream).param == "stream_options"
    request_of(stream_options=None, **stream).check(is_strict=True)
    request_of(stream=True, stream_options=options).check(is_strict=True)


def test_continuous_usage_needs_usage() -> None:
    continuous = {"continuous_usage_stats": True}
    both = {**continuous, "include_usage": True}
    assert not request_of(stream=True, stream_options=continuous).has_continuous_usage
    assert request_of(stream=True, stream_options=both).has_continuous_usage
    assert not request_of(stream_options=both).has_continuous_usage


def test_only_strict_has_openai_s_limit_on_logprobs() -> None:
    request_of(logprobs=20).check(is_strict=False)
    request_of(logprobs=5).check(is_strict=True)
    error = refusal_of(True, logprobs=6)
    assert (error.param, error.code) == ("logprobs", "integer_above_max_value")


@pytest.mark.parametrize(
    ("fields", "num_logprobs"),
    [
        ({"logprobs": 2}, None),
        ({"echo": True}, None),
        ({"echo": True, "logprobs": 2}, 2),
        ({"echo": True, "logprobs": 0}, 0),
        ({"prompt_logprobs": 3}, 3),
        ({"echo": True, "logprobs": 2, "prompt_logprobs": 1}, 2),
    ],
)
def test_prompt_logprobs_come_with_echo_and_when_asked_for(
    fields: dict[str, int], num_logprobs: int | None
) -> None:
    assert request_of(**fields).num_prompt_logprobs == num_logprobs
