"""A frame fits its terminal and shows what the samples say."""

import pytest
from rich.console import Console

from backend.wire.messages import StateFigures, Totals
from gateway.telemetry import families
from gateway.telemetry.exposition import ServerFigures
from gateway.telemetry.figures import GroupFigures, Ledger, SupervisorFigures, WorkerFigures
from gateway.top.gpus import Gpu
from gateway.top.scrape import History, Sample
from gateway.top.view import Frame


def sample(at_s: float, num_tokens: int, num_ranks: int) -> Sample:
    """A server of two groups; its figures pass through the page that a real one writes."""
    ledger = Ledger()
    ledger.observe(families.TTFT, 0.25, times=num_tokens)
    totals = Totals(
        num_steps=num_tokens,
        num_output_tokens=num_tokens,
        forward_s=num_tokens * 0.02,
        states=StateFigures(12, 345, 6, 7),
    )
    groups = [
        GroupFigures(0, True, 12, 3, 0.34, totals),
        GroupFigures(1, False, 0, 0, 0.0, None),
    ]
    worker = WorkerFigures(ledger.counts, ledger.histograms, 4)
    supervisor = SupervisorFigures(1.0, group_states={0: "ready", 1: "given up"})
    figures = ServerFigures({0: worker}, groups, supervisor, ("1.2", "some-model"))
    series: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in figures.collect():
        for found in family.samples:
            series.setdefault(found.name, []).append((dict(found.labels), found.value))
    for rank in range(num_ranks):
        labels = {"process": f"rank 0.{rank}", "group": "0", "rank": str(rank)}
        series.setdefault(families.MEMORY.name, []).append((labels, 3 * 2.0**29))
        series.setdefault(f"{families.CPU_TIME.name}_total", []).append((labels, at_s / 2))
    return Sample(at_s, series)


def drawn(width: int, height: int, num_ranks: int = 2, num_gpus: int = 0) -> list[str]:
    history = History()
    for second in range(20):
        history.add(sample(100.0 + second, 1000 + 50 * second, num_ranks))
    gpus = [Gpu(n, "H100", 0.5, 2**36, 80 * 2**30, 40, 300.0) for n in range(num_gpus)]
    gpus += [Gpu(9, "slice", None, 2**33, 2**34, None, None)] if gpus else []
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(Frame("http://127.0.0.1:8000", history, gpus))
    return capture.get().rstrip("\n").splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
@pytest.mark.parametrize("num_ranks", [1, 30])
@pytest.mark.parametrize("num_gpus", [0, 2])
def test_frame_fits_the_terminal(width: int, height: int, num_ranks: int, num_gpus: int) -> None:
    lines = drawn(width, height, num_ranks, num_gpus)
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    assert not [line for line in lines if "…" in line]


def test_frame_shows_what_happens() -> None:
    text = "\n".join(drawn(120, 40))
    assert "unisono 1.2  some-model" in text
    assert "output 50 tok/s" in text
    assert "queued 4" in text
    group = next(line for line in drawn(120, 40) if line.lstrip().startswith("0  ready"))
    assert group.split()[:5] == ["0", "ready", "12", "3", "50"]
    assert " 34%" in group and "20 ms" in group and "12+345" in group
    assert "1  given up" in text
    assert "rank 0.1" in text and "1,536 MiB" in text and "50%" in text


def test_more_processes_than_lines_are_counted() -> None:
    lines = drawn(80, 24, 30)
    num_shown = sum(line.startswith("rank") for line in lines)
    assert num_shown > 5 and lines[-1].strip() == f"and {30 - num_shown} more"
