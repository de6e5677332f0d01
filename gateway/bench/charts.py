"""Plots as SVG text for a page: lines with their spread, points that are missing, bars.

Colours are Okabe and Ito's, which people with any colour vision can tell apart, and each line has
a marker of its own: the page may be printed in black. matplotlib, an extra, is imported on use.
Knows no measurements. Called by the pages of `unisono bench` and `tune`.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gateway.options import SettingsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", ":", "-.")
_WIDTH_INCHES, _HEIGHT_INCHES = 7.4, 4.0
_STYLE: Any = {  # typed by matplotlib's own list of names
    "svg.fonttype": "path",  # looks alike wherever it is opened
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a model's name begins no formula
}


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement. low, high: the ends of its spread; NaN for none."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Missing:
    """A measurement that could not be made. mark: of one to three characters, explained below."""

    x: float
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """What belongs together. missing: shown on the axis, where their points would stand."""

    name: str
    points: Sequence[Point]
    missing: Sequence[Missing] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """A horizontal line that measurements are held against."""

    name: str
    y: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar of parts, each beside the last. is_pale: of what was not measured."""

    name: str
    parts: Sequence[tuple[str, float]]
    is_pale: bool = False


def check_installed() -> None:
    """Raise SettingsError, before anything is measured, where there is nothing to draw with."""
    if find_spec("matplotlib") is None:
        raise SettingsError("plots need matplotlib; in Unisono's folder: pip install '.[bench]'")


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    *,
    bounds: Sequence[Bound] = (),
    has_log_x: bool = True,
    has_log_y: bool = False,
) -> str:
    """Draw lines over levels of load and return an <svg> element.

    has_log_x: levels stand evenly if each doubles the last; the axis is labelled with the levels.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure, axes = _axes(title, x_label, y_label)
        for number, line in enumerate(lines):
            _draw(axes, number, line)
        for bound in bounds:
            axes.axhline(bound.y, color="#B00020", linewidth=1, linestyle=(0, (5, 3)))
            axes.annotate(
                bound.name,
                (1, bound.y),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                color="#B00020",
                fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
            )
        _scale(axes, lines, bounds, has_log_x=has_log_x, has_log_y=has_log_y)
        _draw_missing(axes, lines)
        if len(lines) > 1:
            figure.legend(loc="outside right center")
        return _svg(figure)


def bar_chart(title: str, x_label: str, bars: Sequence[Bar]) -> str:
    """Draw horizontal bars, the first on top, and return an <svg> element."""
    import matplotlib

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure, axes = _axes(title, x_label, "")
        figure.set_figheight(1.3 + 0.36 * len(bars))
        names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
        for row, bar in enumerate(bars):
            left = 0.0
            for name, value in bar.parts:
                colour = _COLOURS[names.index(name) % len(_COLOURS)]
                alpha = 0.35 if bar.is_pale else 1.0
                axes.barh(row, value, left=left, height=0.62, color=colour, alpha=alpha)
                left += value
            text = f" {left:,.0f}" if left >= 100 else f" {left:,.3g}"
            axes.annotate(text, (left, row), va="center", fontsize=8.5)
        axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
        if len(names) > 1:
            from matplotlib.patches import Patch

            colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
            patches = [Patch(color=c, label=n) for c, n in zip(colours, names, strict=True)]
            figure.legend(handles=patches, loc="outside right center")
        return _svg(figure)


def _axes(title: str, x_label: str, y_label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, pad=10)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _draw(axes: "Axes", number: int, line: Line) -> None:
    known = [point for point in line.points if not math.isnan(point.y)]
    colour = _COLOURS[number % len(_COLOURS)]
    axes.plot(
        [point.x for point in known],
        [point.y for point in known],
        label=line.name,
        color=colour,
        marker=_MARKERS[number % len(_MARKERS)],
        linestyle=_DASHES[number // len(_COLOURS) % len(_DASHES)],
        markersize=5.5,
        linewidth=1.6,
    )
    spread = [point for point in known if not math.isnan(point.low + point.high)]
    if spread:
        below = [max(0.0, point.y - point.low) for point in spread]
        above = [max(0.0, point.high - point.y) for point in spread]
        axes.errorbar(
            [point.x for point in spread],
            [point.y for point in spread],
            yerr=[below, above],
            fmt="none",
            ecolor=colour,
            elinewidth=1,
            capsize=3,
        )


def _scale(
    axes: "Axes",
    lines: Sequence[Line],
    bounds: Sequence[Bound],
    *,
    has_log_x: bool,
    has_log_y: bool,
) -> None:
    levels = sorted(
        {point.x for line in lines for point in line.points}
        | {missing.x for line in lines for missing in line.missing}
    )
    if has_log_x and levels and levels[0] > 0:
        axes.set_xscale("log", base=2)
        if len(levels) == 1:
            axes.set_xlim(levels[0] / 2, levels[0] * 2)
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    if has_log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        highest = [max(p.y, p.high if p.high == p.high else p.y) for ln in lines for p in ln.points]
        highest = [value for value in highest if not math.isnan(value)]
        top = max([*highest, *(bound.y for bound in bounds)], default=0.0)
        axes.set_ylim(0, 1.08 * top if top > 0 else 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _draw_missing(axes: "Axes", lines: Sequence[Line]) -> None:
    """Put a cross for each missing point, those of one level above each other."""
    heights: dict[float, int] = {}
    for number, line in enumerate(lines):
        for missing in line.missing:
            height = heights[missing.x] = heights.get(missing.x, 0) + 1
            at = (missing.x, 0.06 * height - 0.02)
            colour = _COLOURS[number % len(_COLOURS)]
            transform = axes.get_xaxis_transform()
            axes.plot(
                *at, "x", color=colour, markersize=7, markeredgewidth=2.2, transform=transform
            )
            axes.annotate(
                missing.mark,
                at,
                xycoords=transform,
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                fontsize=10,
                fontweight="bold",
            )


def _svg(figure: "Figure") -> str:
    """Return the picture as an element that a page can contain."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].strip()
