"""Plans with pipeline stages and nodes."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.cli import main

TWO_NODES = "2x(4xA10),net=10Gb/s,0.1ms"


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def as_json(*argv: str) -> Any:
        main(["plan", *argv, "--json"])
        return json.loads(capsys.readouterr().out)

    return as_json


def shapes(found: Any) -> list[tuple[int, int, int, int]]:
    return [(each["tp"], each["pp"], each["dp"], each["nodes"]) for each in found["layouts"]]


def test_model_of_two_nodes_gets_stages_over_them(plan: Callable[..., Any]) -> None:
    found = plan("Llama-2-70b", "--devices", TWO_NODES)
    assert shapes(found)[0] == (4, 2, 1, 2)
    assert {shape for shape in shapes(found) if shape[1] == 1} == {(8, 1, 1, 2)}
    assert "--tp 4 --dp 1 --pp 2 --launcher ray --nodes 2" in found["command"]
    # 69.0 billion of two bytes over eight cards, and a whole table of tokens on the first four.
    weights = found["layouts"][0]["memory"]["weight_bytes"]
    assert weights == pytest.approx((69e9 / 8 + 32000 * 8192 * 0.875 / 2) * 2, rel=0.02)


@pytest.mark.parametrize("model", ["OPT-1.3b", "SmolLM2-135M"])
def test_model_of_one_card_is_repeated_before_cut(model: str, plan: Callable[..., Any]) -> None:
    for concurrency in ("64", "256"):
        found = plan(model, "--devices", "4xA10", "--concurrency", concurrency)
        order = shapes(found)
        assert order.index((1, 1, 4, 1)) < min(order.index(each) for each in order if each[1] > 1)


def test_stages_on_one_node_say_nothing_of_nodes(plan: Callable[..., Any]) -> None:
    """A group that has room on a node stays there, and is repeated on the other."""
    order = shapes(plan("Llama-2-13b", "--devices", TWO_NODES))
    assert (1, 2, 4, 1) in order and (1, 8, 1, 2) in order
    # Sums over a network of 0.1 ms, 80 a token: the last of all.
    assert [shape for shape in order if shape[0] > 4] == [(8, 1, 1, 2)] == order[-1:]


def test_family_without_stages_says_why_once(plan: Callable[..., Any]) -> None:
    found = plan("Flan-T5-XL", "--devices", "4xA10")
    assert not [shape for shape in shapes(found) if shape[1] > 1]
    [refused] = [each for each in found["refused"] if each["pp"] > 1]
    assert "it has an encoder" in refused["reason"] and refused["change"].startswith("take TP")


def test_many_cards_are_planned_in_a_second(plan: Callable[..., Any]) -> None:
    before = time.process_time()
    found = plan("Llama-2-70b", "--devices", "8x(8xA10)")
    assert time.process_time() - before < 2 and len(found["layouts"]) > 10


def test_tables_show_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "Llama-2-70b", "--devices", TWO_NODES]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "2 nodes of 4 x A10" in words and "TP 4 x PP 2 x DP 1" in words
    assert "Stages (PP) pay where" in words and "Between nodes 10 Gb/s and 0.1 ms" in words
