import msgspec
import pytest

from gateway.errors import ApiError
from gateway.schema import CompletionRequest, sampling_params

decode = msgspec.json.Decoder(CompletionRequest).decode


def request_of(**fields: object) -> CompletionRequest:
    return decode(msgspec.json.encode({"model": "m", "prompt": "p", **fields}))


OPTIONAL = [name for name in CompletionRequest.__struct_fields__ if name not in ("model", "prompt")]


def test_every_optional_field_accepts_null_as_its_default() -> None:
    request = request_of(**dict.fromkeys(OPTIONAL))
    request.check()
    assert request == request_of()
    [params] = sampling_params(request)
    assert params.max_tokens == 16
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (1.0, 1.0, 0, 0.0)
    assert request.stop_strings == ()


def test_unknown_fields_are_ignored() -> None:
    request_of(repetition_penalty=1.1, whatever={"deep": [1]}).check()


def test_given_values_reach_the_sampling_parameters_of_every_choice() -> None:
    request = request_of(
        n=3, seed=-7, temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, max_tokens=5, ignore_eos=True
    )
    params = sampling_params(request)
    assert [p.choice for p in params] == [0, 1, 2]
    for p in params:
        assert (p.seed, p.temperature, p.top_p, p.top_k, p.min_p) == (-7, 0.5, 0.9, 40, 0.1)
        assert (p.max_tokens, p.ignore_eos) == (5, True)


def test_zero_is_a_value_and_not_a_missing_one() -> None:
    [params] = sampling_params(request_of(seed=0, temperature=0, top_p=0, max_tokens=0))
    assert (params.seed, params.temperature, params.top_p, params.max_tokens) == (0, 0, 0, 0)


def test_a_missing_seed_is_drawn_for_each_prompt_and_shared_by_its_choices() -> None:
    request = request_of(n=2)
    first, second = sampling_params(request), sampling_params(request)
    assert first[0].seed == first[1].seed
    assert first[0].seed != second[0].seed


def test_a_top_k_beyond_any_vocabulary_still_fits_the_wire() -> None:
    [params] = sampling_params(request_of(top_k=2**70))
    msgspec.msgpack.encode(params)
    assert params.top_k == 2**31 - 1


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
def test_a_prompt_has_four_forms(prompt: object, prompts: list[object]) -> None:
    assert request_of(prompt=prompt).prompts() == prompts


@pytest.mark.parametrize("prompt", [["a", 1], [1, [2]], ["a", [1]]])
def test_prompts_of_several_kinds_are_refused(prompt: object) -> None:
    with pytest.raises(ApiError) as refused:
        request_of(prompt=prompt).prompts()
    assert (refused.value.param, refused.value.code) == ("prompt", "invalid_type")


@pytest.mark.parametrize(
    "fields",
    [
        {"best_of": 1},
        {"best_of": 2, "n": 2},
        {"suffix": ""},
        {"logit_bias": {}},
        {"frequency_penalty": 0, "presence_penalty": 0.0},
    ],
)
def test_fields_not_built_yet_are_harmless_at_their_neutral_values(fields: dict[str, int]) -> None:
    request_of(**fields).check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best_of", 3),
        ("suffix", "end"),
        ("logprobs", 0),
        ("logit_bias", {"5": 1}),
        ("frequency_penalty", 0.5),
        ("presence_penalty", -0.5),
    ],
)
def test_fields_not_built_yet_are_named_when_they_would_matter(name: str, value: object) -> None:
    with pytest.raises(ApiError, match=f"'{name}' is not supported yet") as refused:
        request_of(**{name: value}).check()
    assert (refused.value.status, refused.value.param) == (400, name)


def test_stream_options_without_a_stream_are_refused() -> None:
    with pytest.raises(ApiError) as refused:
        request_of(stream_options={"include_usage": True}).check()
    assert refused.value.param == "stream_options"
    request_of(stream=True, stream_options={"include_usage": True, "x": 1}).check()
