"""Bodies made of a trace have its lengths, and share prefixes where it does, and only there."""

from typing import Any

import pytest

from gateway.bench.streamed_request import Target
from gateway.bench.trace import HASHED_TOKENS, Trace, TraceRequest
from gateway.bench.trace_workload import TraceWorkload, prepare
from gateway.bench.workload import Workload
from tests.gateway.bench.fake_server import FakeServer, against

MOONCAKE = Trace(
    "Mooncake",
    [
        TraceRequest(1, 0.0, 600, 5, (7, 1)),
        TraceRequest(2, 0.1, 700, 6, (7, 2)),
        TraceRequest(3, 0.2, 40, 7),
    ],
)
SHARE_GPT = Trace(
    "ShareGPT", [TraceRequest(2, prompt="Why is it so?", reply="So it is, I say. " * 4)], 3
)


def prompts(bodies: list[dict[str, Any]]) -> list[list[str]]:
    return [body["prompt"].split() for body in bodies]


def test_equal_blocks_have_equal_text_within_a_pass() -> None:
    first, second, third = prompts(TraceWorkload(MOONCAKE, Workload("fake")).bodies(3))
    assert [len(words) for words in (first, second, third)] == [600, 700, 40]
    assert first[:HASHED_TOKENS] == second[:HASHED_TOKENS]
    assert first[HASHED_TOKENS:] != second[HASHED_TOKENS : len(first)]


def test_passes_share_nothing() -> None:
    workload = TraceWorkload(MOONCAKE, Workload("fake"))
    before, after = prompts(workload.bodies(3)), prompts(workload.bodies(3))
    assert [len(words) for words in before] == [len(words) for words in after]
    assert all(one[:8] != other[:8] for one, other in zip(before, after, strict=True))


def test_lengths_of_answers_are_the_traces() -> None:
    extra = {"min_tokens": 256, "top_p": 0.9}
    workload = TraceWorkload(MOONCAKE, Workload("fake", max_tokens=256, extra=extra))
    bodies = workload.bodies(4)
    assert [body["max_tokens"] for body in bodies] == [5, 6, 7, 5]
    assert all("min_tokens" not in body and body["top_p"] == 0.9 for body in bodies)


def test_scaled_lengths_keep_what_is_shared() -> None:
    base = Workload("fake", prompt_ids=True)
    first, second, _ = TraceWorkload(MOONCAKE, base, length_scale=0.25).bodies(3)
    assert (len(first["prompt"]), len(second["prompt"])) == (150, 175)
    assert first["prompt"][:128] == second["prompt"][:128] != first["prompt"][22:150]
    assert [first["max_tokens"], second["max_tokens"]] == [1, 2]


def test_prompts_are_as_long_as_the_server_counts() -> None:
    """The fake server counts one token more than there are words."""
    workload = TraceWorkload(MOONCAKE, Workload("fake"))
    against(FakeServer(), lambda target: prepare(target, workload, 3))
    assert [len(words) + 1 for words in prompts(workload.bodies(3))] == [600, 700, 40]


@pytest.mark.parametrize(("has_count", "num_tokens"), [(True, 20), (False, 17)])
def test_replies_are_counted_by_the_server_or_estimated(has_count: bool, num_tokens: int) -> None:
    workload = TraceWorkload(SHARE_GPT, Workload("fake"))

    async def use(target: Target) -> None:
        await prepare(target, workload, 1)

    against(FakeServer(counts_tokens=has_count), use)
    [body] = workload.bodies(1)
    assert (body["prompt"], body["max_tokens"]) == ("Why is it so?", num_tokens)
    [note] = workload.notes()
    assert "3 conversations without an answered question" in note
    assert ("4 letters are taken for a token" in note) is not has_count


def test_replies_of_one_line_keep_their_lengths() -> None:
    """Without line breaks all conversations are on line 1: each had the last one's length."""
    trace = Trace(
        "ShareGPT",
        [
            TraceRequest(1, prompt="Why?", reply="So " * 8),
            TraceRequest(1, prompt="How?", reply="No"),
        ],
    )
    workload = TraceWorkload(trace, Workload("fake"))
    against(FakeServer(counts_tokens=False), lambda target: prepare(target, workload, 2))
    assert [body["max_tokens"] for body in workload.bodies(2)] == [6, 1]


def test_text_that_is_asked_again_begins_otherwise() -> None:
    [request] = SHARE_GPT.requests
    workload = TraceWorkload(SHARE_GPT, Workload("fake"), num_reply_tokens={request.reply: 3})
    asked = [body["prompt"] for body in workload.bodies(3)]
    assert asked[0] == "Why is it so?"
    assert all(prompt.endswith(": Why is it so?") for prompt in asked[1:])
