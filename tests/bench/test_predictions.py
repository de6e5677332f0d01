"""How predictions are judged, with invented measurements."""

from pathlib import Path

import msgspec

from tests.bench.predictions import (
    Measured,
    MemoryRow,
    Report,
    Row,
    append,
    as_tables,
    ranking,
    read_all,
)


def row(layout: str, predicted: float, measured: float) -> Row:
    return Row(
        model="m",
        layout=layout,
        streams=4,
        rounds=3,
        predicted=predicted,
        measured=measured,
        spread=(measured, measured),
        error=predicted / measured - 1,
        ttft_ms=(1, 2),
        itl_ms=(3, 4),
        bound="reading weights",
    )


def test_order_counts_pairs_that_differ_by_more_than_a_tie() -> None:
    level = [row("a", 100, 100), row("b", 90, 97), row("c", 50, 60)]
    assert ranking(level) == (2, [])


def test_pair_that_is_predicted_the_other_way_round_is_told() -> None:
    level = [row("a", 100, 60), row("b", 90, 100)]
    assert ranking(level) == (1, ["m, 4 streams: a first"])
    nearly = [row("a", 94, 60), row("b", 90, 100)]
    assert ranking(nearly) == (1, []), "predicted to be a tie"


def test_tables_end_with_what_was_promised() -> None:
    rows = [row("a", 100, 110), row("b", 90, 60)]
    memory = [MemoryRow("m", "a", 104, 100, 0.04), MemoryRow("m", "b", 90, 100, -0.1)]
    text = as_tables(Report("a box", "measured", rows, memory, 1, []))
    assert "| m | a | 4 | 0.0 | 100 | 110 (110 to 110) | -9% |" in text
    assert "within 20%: 1 of 2; order right: 1 of 1 pairs" in text
    assert text.endswith("memory within 5%: 1 of 2")


def test_measurements_are_kept_as_they_are_made(tmp_path: Path) -> None:
    measured = Measured("box", "abc", "m", "a", 4, 0, 100.0, rank_bytes=(5, 6))
    assert read_all(tmp_path / "none") == []
    for round_ in range(2):
        append(tmp_path / "file", msgspec.structs.replace(measured, round=round_))
    assert [each.round for each in read_all(tmp_path / "file")] == [0, 1]
