"""Plots are elements for a page: nothing in them is fetched, and nothing of a name is markup."""

import math
import sys
import xml.etree.ElementTree as ET

import pytest

from gateway.bench.charts import (
    Bar,
    Bound,
    Line,
    Missing,
    Point,
    bar_chart,
    check_installed,
    line_chart,
)
from gateway.options import SettingsError


def test_lines_bounds_and_missing_points_are_drawn() -> None:
    lines = [
        Line("TP 1 & <b>", [Point(1, 10, 9, 11), Point(4, math.nan)], [Missing(4, "a")]),
        Line("TP 2", [Point(1, 5)], [Missing(4, "b"), Missing(16)]),
    ]
    svg = line_chart("T", "streams", "tokens/s", lines, bounds=[Bound("limit", 20)])
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    root = ET.fromstring(svg)
    assert not [e for e in root.iter() if e.tag.endswith(("image", "script", "style/import"))]
    links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
    assert links and all(link.startswith("#") for link in links)


def test_dollars_of_a_name_are_no_formula() -> None:
    r"""$\no$ ended a sweep's page with ValueError, $a$ was drawn as a formula."""
    name = r"a $\no$ b"
    assert "<svg" in line_chart(name, "x", "y", [Line(name, [Point(1, 2)]), Line("b", [])])


def test_same_figures_give_the_same_picture() -> None:
    lines = [Line("a", [Point(1, 2), Point(2, 3)])]
    assert line_chart("T", "x", "y", lines) == line_chart("T", "x", "y", lines)


@pytest.mark.parametrize("points", [[], [Point(0, 1)], [Point(2, 0)]])
def test_few_points_or_none_are_no_fault(points: list[Point]) -> None:
    assert "<svg" in line_chart("T", "x", "y", [Line("a", points)])


def test_bars_of_parts_are_drawn() -> None:
    bars = [Bar("TP 1", [("weights", 90.0), ("cache", 30.5)]), Bar("TP 2", [("weights", 1.0)])]
    assert bar_chart("Memory", "MB", bars).count('<g id="patch_') >= 4


def test_missing_matplotlib_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("gateway.bench.charts.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"plots need matplotlib.* pip install '\.\[bench\]'"):
        check_installed()
