"""What `unisono top` looks like: one frame out of the samples of the last minute.

Must not know where samples come from. 80 columns and 24 lines are enough; more show more.
"""

import math
import time
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from gateway.telemetry import families
from gateway.telemetry.access_log import PROBES
from gateway.top.gpus import Gpu
from gateway.top.scrape import History, Sample

_BARS = " ▁▂▃▄▅▆▇█"
_STATE_STYLES = {"ready": "green", "loading": "yellow", "draining": "yellow", "stopped": "dim"}
_FULL, _EMPTY = "█", "·"


class Frame:
    """One picture of a server."""

    def __init__(
        self,
        url: str,
        history: History,
        gpus: Sequence[Gpu] = (),
        *,
        max_height: int | None = None,
    ) -> None:
        """max_height: lines to fill; None for those of the terminal."""
        self._url = url
        self._history = history
        self._gpus = gpus
        self._max_height = max_height
        self._now, self._recent, self._lately = history.now, history.recent, history.lately

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, self._max_height or options.height or console.height
        yield self._head(width)
        yield self._summary()
        yield self._latencies()
        yield ""
        chart_lines = 0
        if len(rates := self._rates()) > 1:
            chart_lines = 6 if height >= 36 else 2
            yield from _chart(rates, width, chart_lines)
            yield ""
        yield self._groups(width)
        yield ""
        used = 5 + chart_lines + len(self._group_numbers()) + 2
        if self._gpus:
            yield self._gpu_table()
            yield ""
            used += len(self._gpus) + 2
        # Its head, and a line that says how many more there are.
        yield self._processes(max(1, height - used - 2))

    def _head(self, width: int) -> Text:
        info = self._now.rows(families.INFO)
        labels = info[0][0] if info else {}
        started = self._now.total(families.START_TIME)
        left = Text(f"unisono {labels.get('version', '?')}", "bold")
        left.append(f"  {labels.get('model', '?')}", "cyan")
        left.append(f"  {self._url}  up {_duration(time.time() - started)}", "dim")
        left.truncate(width - 9, overflow="ellipsis")
        left.pad_right(max(1, width - 8 - left.cell_len))
        return left.append(time.strftime("%H:%M:%S"), "dim")

    def _summary(self) -> Text:
        recent = self._recent
        requests = errors = 0.0
        for labels, _ in self._now.rows(families.HTTP_REQUESTS, "_total"):
            if labels["route"] not in PROBES:
                rate = recent.rate(families.HTTP_REQUESTS, **labels)
                requests += rate
                errors += rate if labels["status"][0] in "45" else 0.0
        return _facts(
            ("output", f"{recent.rate(families.ENGINE_OUTPUT):,.0f} tok/s", "green"),
            ("prompt", f"{recent.rate(families.ENGINE_PROMPT):,.0f} tok/s", "green"),
            ("requests", f"{requests:,.1f}/s", ""),
            ("errors", f"{errors:,.1f}/s", "red" if errors else ""),
            ("queued", f"{self._now.total(families.QUEUED):,.0f}", ""),
        )

    def _latencies(self) -> Text:
        facts = []
        for word, family in (("TTFT", families.TTFT), ("ITL", families.ITL)):
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                shown = _seconds(self._lately.quantile(family, share))
                facts.append((f"{word} {name}" if name == "p50" else name, shown, "yellow"))
        resumed = self._now.total(families.RESUMPTIONS, "_total")
        return _facts(*facts, ("resumed", f"{resumed:,.0f}", ""))

    def _rates(self) -> list[float]:
        """Output tokens a second between each two samples."""
        return [span.rate(families.ENGINE_OUTPUT) for span in self._history.steps()]

    def _group_numbers(self) -> list[str]:
        rows = self._now.rows(families.GROUP_READY)
        return sorted((labels["group"] for labels, _ in rows), key=int)

    @property
    def _has_states(self) -> bool:
        """Whether the model keeps anything of fixed size for a sequence."""
        return bool(self._now.rows(families.STATE_SLOTS))

    def _groups(self, width: int) -> Table:
        table = _table("group", "state", "batch", "taken", "tok/s", "KV cache", "hits", "step")
        is_wide = width >= 100
        if is_wide:
            names = ["forward", "sample", "steps/s", "preempts"]
            names += ["states"] if self._has_states else []
            for name in names:
                table.add_column(name, justify="right")
        table.add_column("restarts", justify="right")
        table.columns[1].justify = table.columns[5].justify = "left"
        for group in self._group_numbers():
            table.add_row(*self._group(group, is_wide))
        return table

    def _group(self, group: str, is_wide: bool) -> list[Text | str]:
        now, recent = self._now, self._recent
        states = [labels for labels, _ in now.rows(families.GROUP_STATE)]
        state = next((s["state"] for s in states if s["group"] == group), "down")
        style = _STATE_STYLES.get(state, "bold red")
        steps = recent.growth(families.STEPS, group=group)
        queries = recent.growth(families.PREFIX_QUERIES, group=group)
        hits = recent.growth(families.PREFIX_HITS, group=group)

        # In a wide frame the states' column takes half of it.
        bar_width = 10 if not is_wide else 8 if self._has_states else 16

        def step_time(**phase: str) -> str:
            total = recent.growth(families.STEP_TIME, group=group, **phase)
            return _seconds(total / steps if steps else None)

        row: list[Text | str] = [
            group,
            Text.assemble((state, style), (_node(now, group), "dim")),
            f"{now.total(families.RUNNING, group=group):.0f}",
            f"{now.total(families.WAITING, group=group):.0f}",
            f"{recent.rate(families.ENGINE_OUTPUT, group=group):,.0f}",
            _bar(now.total(families.KV_USAGE, group=group), bar_width),
            f"{hits / queries:.0%}" if queries else "-",
            step_time(),
        ]
        if is_wide:
            row += [step_time(phase="forward"), step_time(phase="sample")]
            row.append(f"{recent.rate(families.STEPS, group=group):,.1f}")
            row.append(f"{now.total(families.PREEMPTIONS, '_total', group=group):,.0f}")
            if self._has_states:
                slots, kept = (
                    now.total(family, group=group)
                    for family in (families.STATE_SLOTS, families.STATE_SNAPSHOTS)
                )
                row.append(f"{slots:,.0f}+{kept:,.0f}")
        restarts = now.total(families.GROUP_RESTARTS, "_total", group=group)
        row.append(Text(f"{restarts:.0f}", "red" if restarts else ""))
        return row

    def _gpu_table(self) -> Table:
        table = _table("GPU", "name", "busy", "memory", "", "°C", "W")
        for column in (1, 2, 3):
            table.columns[column].justify = "left"
        for gpu in self._gpus:
            share = gpu.used_bytes / gpu.total_bytes
            size = f"{gpu.used_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.0f} GiB"
            busy = "-" if gpu.utilisation is None else _bar(gpu.utilisation, 10)
            numbers = ("-" if n is None else f"{n:.0f}" for n in (gpu.temperature_c, gpu.watts))
            table.add_row(str(gpu.index), gpu.name, busy, _bar(share, 10), size, *numbers)
        return table

    def _processes(self, max_rows: int) -> Table:
        table = _table("process", "CPU", "", "memory")
        table.columns[0].justify = table.columns[2].justify = "left"
        rows = [labels["process"] for labels, _ in self._now.rows(families.MEMORY)]
        for process in rows[:max_rows]:
            cores = self._recent.rate(families.CPU_TIME, process=process)
            size = self._now.total(families.MEMORY, process=process)
            meter = Text(_FULL * min(20, round(cores * 5)), "blue")  # a fifth of a core each
            table.add_row(process, f"{cores:.0%}", meter, f"{size / 2**20:,.0f} MiB")
        if len(rows) > max_rows:
            table.add_row(f"and {len(rows) - max_rows} more", "", "", "")
        return table


def _node(now: Sample, group: str) -> str:
    """Where a group runs, with a blank before it; nothing for the server's own machine."""
    nodes = [labels for labels, _ in now.rows(families.GROUP_NODE)]
    return next((f" {each['node']}" for each in nodes if each["group"] == group), "")


def _chart(rates: Sequence[float], width: int, height: int) -> Iterator[Text]:
    """Draw output tokens a second, the last at the right: a column each."""
    top = max(rates)
    label = f"{top:>8,.0f} "
    shown = rates[-(width - len(label)) :]
    for line in reversed(range(height)):
        heights = [8 * height * rate / top - 8 * line if top else 0.0 for rate in shown]
        columns = "".join(_BARS[max(0, min(8, round(h)))] for h in heights)
        margin = {height - 1: label, 0: f"{'tok/s':>8} "}.get(line, " " * len(label))
        yield Text(margin, "dim").append(columns.rjust(width - len(label)), "green")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _facts(*facts: tuple[str, str, str]) -> Text:
    text = Text()
    for word, shown, style in facts:
        text.append(f"{word} ", "dim").append(f"{shown}   ", style or "default")
    return text


def _bar(share: float, width: int) -> Text:
    filled = min(width, math.ceil(share * width))
    style = "red" if share > 0.9 else "yellow" if share > 0.7 else "blue"
    text = Text(_FULL * filled, style).append(_EMPTY * (width - filled), "dim")
    return text.append(f" {share:4.0%}")


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _duration(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
