"""Bars show how far a measurement is, on a terminal; elsewhere only lines are printed."""

import io
import re

import pytest
from rich.console import Console

from gateway.bench.watch import Bars


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_are_for_terminals_and_lines_for_all(is_terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=100)
    with Bars("a model", 3, console) as bars:
        bars.begins("4 streams", 8)
        bars.answered(64)
        bars.prints("[4] is no markup")
        bars.skips(1)
        bars.begins("16 streams", 32)
        bars.prepares("a server starts")
        bars.says("another model")
    shown = output.getvalue()
    assert "[4] is no markup" in shown
    assert "another model" in shown
    assert ("━" in shown) is is_terminal


def test_bar_has_the_tokens_a_second_so_far() -> None:
    output = io.StringIO()
    bars = Bars("tune", None, Console(file=output, force_terminal=True, width=120))
    with bars:
        bars.prepares("a server starts")
        bars.begins("4 streams", 8)
        bars.answered(64)
    shown = output.getvalue()
    assert re.search(r"4 streams, \d+ tokens/s", shown) and "1/8" in shown
