"""What the comparison's table makes of measurements."""

from pathlib import Path

from tests.bench.peers.measurement import Conditions, Measurement, append, read_all
from tests.bench.peers.table import render

BEST = Conditions("2 cores of a CPU", "tiny")


def measurement(
    server: str, tokens_per_s: float, load: str = "a", conditions: Conditions = BEST
) -> Measurement:
    return Measurement(
        conditions=conditions,
        server=server,
        version="1",
        command=f"{server} serve",
        load=load,
        measured_at="2026-11-23T05:00:00+00:00",
        streams=1,
        tokens_per_s=tokens_per_s,
        ttft_p50_ms=50.0,
        ttft_p99_ms=60.0,
        itl_p50_ms=9.0,
        num_short=0,
        ready_s=4.0,
        idle_cpu_percent=0.2,
        pss_mb=700.0,
        kv_mb=100.0,
    )


def line_of(table: str, start: str) -> str:
    [line] = [line for line in table.splitlines() if line.startswith(f"| {start} |")]
    return line


def test_ours_is_held_against_the_better_peer_of_the_run() -> None:
    peers = [measurement("llama.cpp", 50.0), measurement("vLLM", 30.0)]
    table = render([measurement("Unisono", 150.0), *peers])
    assert "3.00 of llama.cpp" in line_of(table, "**ours / better peer**")
    assert "recorded" not in table


def test_rounds_are_condensed_to_their_median() -> None:
    table = render([measurement("Unisono", speed) for speed in (10.0, 90.0, 40.0)])
    assert "| Unisono | 40; 50 |" in table


def test_levels_are_never_in_one_table() -> None:
    avx2 = Conditions(BEST.machine, BEST.model, "avx2")
    ours = [measurement("Unisono", 150.0), measurement("Unisono", 40.0, conditions=avx2)]
    peers = [measurement("vLLM", 50.0), measurement("vLLM", 10.0, conditions=avx2)]
    best, lesser = render([*ours, *peers]).split("**tiny on 2 cores of a CPU, instructions: avx2**")
    assert best.startswith("**tiny on 2 cores of a CPU, instructions: the best it has**")
    assert "3.00 of vLLM" in line_of(best, "**ours / better peer**")
    assert "4.00 of vLLM" in line_of(lesser, "**ours / better peer**")


def test_measurements_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert read_all(path) == []
    kept = [measurement("Unisono", 1.0), measurement("vLLM", 2.0, "b")]
    for each in kept:
        append(path, each)
    assert read_all(path) == kept
