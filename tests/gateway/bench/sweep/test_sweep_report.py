"""Table and page of a sweep name every layout and every reason why a point is missing."""

from gateway.bench.death import ServerDeath
from gateway.bench.sweep.report import as_table
from gateway.bench.sweep.results import Layout, Load, Point, Results, Run
from gateway.bench.sweep.sweep_page import sweep_page
from tests.gateway.bench.factories import CONDITIONS, level


def results() -> Results:
    rounds = [level(output_tokens_per_s=speed) for speed in (90.0, 110.0)]
    runs = [
        Run(Layout(), CONDITIONS, "unisono serve", "fake", points=[Point(1, rounds, 7_000_000)]),
        Run(
            Layout(tp=2, quantization="int8"),
            CONDITIONS,
            points=[
                Point(1, rounds, notes=["1 requests failed: x"]),
                Point(64, death=ServerDeath("9 GB <are> needed", "", True)),
                Point(256),
            ],
        ),
    ]
    return Results(Load(3, 256, 1.0, 0, {"top_k": 20}, {"threads": 1}), runs)


def test_table_has_a_row_for_each_point_or_its_reason() -> None:
    lines = as_table(results()).splitlines()
    assert lines[:2] == ["fake", "  TP 1 x DP 1, quantization auto"]
    assert lines[3].split()[:3] == ["1", "100.0", "20%"] and lines[3].endswith(" 7")
    assert lines[4] == "  TP 2 x DP 1, quantization int8"
    assert lines[6].endswith("-  (1 requests failed: x)")
    assert lines[7] == "      64  missing: 9 GB <are> needed"
    assert lines[8] == "     256  not measured yet"
    assert "load: prompt 3, output 256 tokens, temperature 1, top_k 20" in lines
    assert "machine: 2 cores of X" in lines and "commit: abc1234" in lines
    assert max(map(len, lines[:6])) <= 80


def test_page_draws_each_model_and_explains_what_is_missing() -> None:
    page = sweep_page(results())
    assert page.count("<svg") == 4
    assert "<b>a</b> out of memory: 9 GB &lt;are&gt; needed" in page
    assert "<h2>fake</h2>" in page
    assert "2 cores of X" in page and "threads 1" in page
