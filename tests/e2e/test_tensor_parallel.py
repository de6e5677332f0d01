"""The default model on one, two and three ranks: the same text, and each holds only its part."""

import re
from functools import cache

import pytest

from tests.e2e.clients import openai_client
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "The three states of matter are",
    "Dear Sir or Madam,",
    "1, 2, 3, 5, 8, 13,",
    "Water boils at a temperature of",
    "To make a good cup of tea, first",
    "The opposite of hot is cold. The opposite of big is",
    "In 1969, the first human",
]
MAX_TOKENS = 32
# Two and one of three KV heads are evened out by MLP columns in units of 32 of 1,536.
UNEVENNESS = 0.03
MEGABYTES = re.compile(r"([\d.]+) MB")


@cache
def started(tp: int) -> tuple[list[str], list[float], float]:
    """Serve on `tp` ranks; return greedy texts, megabytes of each rank and of it on every rank."""
    arguments = ["--dtype", "float32", "--tp", str(tp), "--kv-cache-bytes", str(1 << 28)]
    with Server(*arguments) as server, openai_client(server.url) as client:
        answer = client.completions.create(
            model="SmolLM2-135M-Instruct",
            prompt=PROMPTS,
            max_tokens=MAX_TOKENS,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        [line] = [line for line in server.stderr.splitlines() if line.startswith("  weights")]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(PROMPTS) * MAX_TOKENS
    *ranks, replicated = map(float, MEGABYTES.findall(line))
    return [choice.text for choice in answer.choices], ranks, replicated


@pytest.mark.parametrize("tp", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_greedy_text_is_that_of_one_rank(tp: int) -> None:
    texts, _, _ = started(tp)
    expected, _, _ = started(1)
    assert texts == expected
    assert texts[0].startswith(" Paris")


@pytest.mark.parametrize("tp", [2, 3])
def test_each_rank_holds_its_share_of_the_weights(tp: int) -> None:
    _, [total], replicated = started(1)
    _, ranks, replicated_each = started(tp)
    assert len(ranks) == tp
    assert replicated_each == replicated
    share = (total - replicated) / tp
    assert [rank - replicated for rank in ranks] == pytest.approx([share] * tp, rel=UNEVENNESS)
    # Nothing is missing and nothing is held twice, to the decimal that is shown.
    assert sum(ranks) - tp * replicated == pytest.approx(total - replicated, abs=0.1 * (tp + 1))
