"""Log-probabilities of completions and prompts, token ids, and the best of several."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.wire.messages import SeqOutput, TokenLogprobs
from gateway.app import create_app
from tests.gateway.completion_requests import (
    LENGTH,
    completed,
    logprobs_of,
    scripted,
    text_of_choices,
)
from tests.gateway.fakes import (
    BOS,
    ByteTokenizer,
    FakePool,
    app_of,
    complete,
    make_service,
    score_of,
    settle,
)


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_are_four_parallel_arrays(stream: bool) -> None:
    exchange = await completed(scripted("aé".encode()), logprobs=1, stream=stream)
    assert logprobs_of(exchange.chunks if stream else [exchange.json]) == {
        "tokens": ["a", "bytes:\\xc3", "bytes:\\xa9"],
        "token_logprobs": [-2.0, -2.0, -2.0],
        "top_logprobs": [
            {"A": -0.5, "a": -2.0},
            {"A": -0.5, "bytes:\\xc3": -2.0},
            {"A": -0.5, "bytes:\\xa9": -2.0},
        ],
        "text_offset": [0, 1, 1],
    }


async def test_no_alternatives_leave_the_chosen_token() -> None:
    exchange = await completed(scripted(b"a"), logprobs=0)
    assert logprobs_of([exchange.json])["top_logprobs"] == [{"a": -2.0}]


async def test_chosen_token_written_like_another_keeps_its_logprob() -> None:
    exchange = await completed(scripted(b"A"), logprobs=2)
    assert logprobs_of([exchange.json])["top_logprobs"] == [{"A": -2.0, "B": -1.0}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 2])
@pytest.mark.parametrize("prefix_ids", [(), (BOS,)])
async def test_echo_with_logprobs_scores_the_prompt(
    stream: bool, max_tokens: int, prefix_ids: tuple[int, ...]
) -> None:
    pool = FakePool()
    app = create_app(make_service(pool, ByteTokenizer(prefix_ids=prefix_ids)))
    fields: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": max_tokens}
    exchange = complete(app, prompt="hié", stream=stream, **fields)
    await settle()
    assert pool.submitted[0].params.prompt_logprobs == 1
    prompt_ids = pool.submitted[0].prompt_ids
    for token_id in prompt_ids[1:]:  # chunk by chunk
        pool.send(0, [], prompt_logprobs=[score_of(token_id, 1)])
    pool.play(0, b"xy"[:max_tokens], LENGTH)
    exchange = await exchange.finished()
    answers = exchange.chunks if stream else [exchange.json]
    answer = "xy"[:max_tokens]
    assert text_of_choices(answers) == {0: ("hié" + answer, "length")}
    logprobs = logprobs_of(answers)
    tokens = [*["<s>"] * len(prefix_ids), "h", "i", "bytes:\\xc3", "bytes:\\xa9", *answer]
    assert logprobs["tokens"] == tokens
    assert logprobs["token_logprobs"] == [None] + [-2.0] * (len(tokens) - 1)
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["top_logprobs"][1] == {tokens[1]: -2.0, "A": -0.5}
    assert logprobs["text_offset"] == [*[0] * len(prefix_ids), 0, 1, 2, 2, 3, 4][: len(tokens)]


@given(
    st.binary(min_size=1, max_size=12),
    st.lists(st.text("abé", min_size=1, max_size=3), max_size=2),
    st.booleans(),
)
async def test_logprobs_and_ids_of_a_stream_are_those_of_the_whole(
    tokens: bytes, stop: list[str], keeps_stop: bool
) -> None:
    fields: dict[str, Any] = {
        "logprobs": 2,
        "stop": stop,
        "include_stop_str_in_output": keeps_stop,
        "return_token_ids": True,
    }
    whole = (await completed(scripted(tokens), **fields)).json
    chunks = (await completed(scripted(tokens), stream=True, **fields)).chunks
    assert text_of_choices(chunks) == text_of_choices([whole])
    assert logprobs_of(chunks) == logprobs_of([whole])
    [choice] = whole["choices"]
    pieces = [chunk["choices"][0] for chunk in chunks]
    assert [i for piece in pieces for i in piece["token_ids"]] == choice["token_ids"]
    assert len(choice["token_ids"]) == whole["usage"]["completion_tokens"]
    assert ["prompt_token_ids" in piece for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert choice["prompt_token_ids"] == list(b"hi")
    assert pieces[-1]["stop_reason"] == choice["stop_reason"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 1])
async def test_prompt_of_several_choices_gets_its_logprobs_once(
    stream: bool, max_tokens: int
) -> None:
    """Every choice once asked for them itself; now the others wait for the first."""
    pool = FakePool()
    fields: dict[str, Any] = {"echo": True, "logprobs": 0, "max_tokens": max_tokens, "n": 3}
    exchange = complete(app_of(pool), prompt="abc", stream=stream, **fields)
    await settle()
    assert [s.params.prompt_logprobs for s in pool.submitted.values()] == (
        [0, None, None] if max_tokens else [0]
    )
    for seq_id in (2, 1)[: 2 * max_tokens]:
        pool.send(seq_id, b"12"[seq_id - 1 : seq_id], LENGTH)  # before there is any score
    pool.send(0, [], prompt_logprobs=[score_of(98, 0)])
    pool.send(0, b"0"[:max_tokens], LENGTH, prompt_logprobs=[score_of(99, 0)])
    exchange = await exchange.finished()
    assert exchange.is_complete
    answers = exchange.chunks if stream else [exchange.json]
    texts = {index: ("abc" + str(index)[:max_tokens], "length") for index in range(3)}
    assert text_of_choices(answers) == texts
    for index in range(3):
        logprobs = logprobs_of(answers, index)
        assert logprobs["tokens"] == [*"abc", *str(index)[:max_tokens]]
        assert logprobs["token_logprobs"] == [None, -2.0, -2.0, -2.0][: 3 + max_tokens]


async def test_prompt_of_one_token_keeps_nobody_waiting() -> None:
    pool = FakePool(script=(b"x", LENGTH))
    choices = (await completed(pool, prompt="a", echo=True, logprobs=0, max_tokens=1, n=2)).json[
        "choices"
    ]
    assert [choice["logprobs"]["tokens"] for choice in choices] == [["a", "x"]] * 2


async def test_prompt_logprobs_have_vllm_s_shape() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), prompt_logprobs=1, max_tokens=0)
    await settle()
    pool.send(0, [], LENGTH, prompt_logprobs=[score_of(105, 1)])
    [choice] = (await exchange.finished()).json["choices"]
    assert choice["prompt_logprobs"] == [
        None,
        {
            "65": {"logprob": -0.5, "rank": 1, "decoded_token": "A"},
            "105": {"logprob": -2.0, "rank": 4, "decoded_token": "i"},
        },
    ]
    assert choice["logprobs"] is None


async def test_best_candidates_come_best_first_and_all_are_counted() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), prompt=["a", "b"], best_of=3, n=2)
    await settle()
    assert [s.params.logprobs for s in pool.submitted.values()] == [0] * 6
    for seq_id, logprob in enumerate([-3.0, -1.0, -2.0, -1.0, -2.0, -3.0]):
        score = TokenLogprobs(logprob, 0, [])
        output = SeqOutput(seq_id, [97 + seq_id], LENGTH, logprobs=(score,))
        pool.submitted[seq_id].receiver.receive(output)
    answer = (await exchange.finished()).json
    assert [(c["index"], c["text"]) for c in answer["choices"]] == [
        (0, "b"),
        (1, "c"),
        (2, "d"),
        (3, "e"),
    ]
    assert answer["choices"][0]["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["usage"]["prompt_tokens"] == 2
