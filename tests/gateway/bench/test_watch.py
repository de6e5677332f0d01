"""Bars show how far a measurement is, on a terminal; elsewhere only lines are printed."""

import io

import pytest
from rich.console import Console

from gateway.bench.watch import Bars


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_are_for_terminals_and_lines_for_all(is_terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=100)
    with Bars("a model", 3, console) as bars:
        bars.begins("4 streams", 8)
        bars.answered()
        bars.prints("[4] is no markup")
        bars.skips(1)
        bars.begins("16 streams", 32)
        bars.says("another model")
    shown = output.getvalue()
    assert "[4] is no markup" in shown
    assert ("another model" in shown) is is_terminal
    assert ("━" in shown) is is_terminal
