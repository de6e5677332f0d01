"""A report says what was measured, how far it spreads and what makes it less than comparable."""

import json
import math
from typing import Any

import pytest

from gateway.bench.report_page import report_page
from tests.gateway.bench.factories import level, report


@pytest.mark.parametrize("settings", [{}, {"ttft_limit_ms": 5.0}])
def test_table_has_a_row_for_each_level_in_80_columns(settings: dict[str, Any]) -> None:
    slow = level(concurrency=64, good_share=1.0, ttft_p99_ms=99999.9, itl_p99_ms=9999.9)
    lines = report([level()], [slow], **settings).as_table().splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["4", "64"]
    assert "TTFT" in lines[0] and "tokens/s" in lines[1]
    assert max(map(len, lines)) <= 80
    assert ("good" in lines[1].split()) == bool(settings)
    assert lines[4] == ""


def test_conditions_stand_below_the_table() -> None:
    table = report([level()]).as_table()
    assert table.endswith(
        "machine: 2 cores of X\ninstructions: avx2\nversions: unisono 1\ncommit: abc1234\n"
        "measured at: 2026-11-28"
    )


def test_rates_name_levels_of_an_open_loop() -> None:
    made = report([level(concurrency=0, offered_per_s=2.5)])
    assert [each.name for each in made.levels] == ["2.5"]
    assert made.as_table().splitlines()[1].startswith("  req/s")


def test_spread_is_the_distance_of_the_rounds() -> None:
    rounds = [level(output_tokens_per_s=speed) for speed in (90.0, 100.0, 120.0)]
    made = report(rounds)
    assert made.levels[0].spread_percent == 30
    assert "100.0    30%" in made.as_table()
    assert "128.0      -" in report([level()]).as_table()


def test_tokens_without_text_have_no_latencies() -> None:
    silent = level(events_per_token=0.0, ttft_p50_ms=math.nan, itl_p50_ms=math.nan)
    table = report([silent]).as_table()
    assert "note: no event carried text" in table
    both = report([silent], [level(concurrency=16, events_per_token=0.5)]).as_table()
    assert "note: no event carried text" in both and "carried 2.0 tokens" in both


def test_table_says_what_makes_the_figures_less_than_comparable() -> None:
    failed = level(num_errors=2, first_error="HTTP 500: no", prompt_tokens_per_request=130.0)
    busy = level(num_short=3, client_cpu_percent=200.0, events_per_token=0.5)
    made = report([failed, busy], notes=["told before"])
    notes = [line for line in made.as_table().splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: told before",
        "note: the server counted 129.0 prompt tokens instead of 128",
        "note: 3 streams ended before 128 tokens",
        "note: an event carried 1.3 tokens: ITL is the time between events",
        "note: the client took 105 % of a core: it may be what is measured",
        "note: 2 failed at 4: HTTP 500: no",
    ]
    assert made.has_errors


def test_json_holds_every_round_and_what_was_asked() -> None:
    unmeasured = level(ttft_p50_ms=math.nan)
    document = json.loads(report([unmeasured, level()], rounds=2).as_json())
    assert document["settings"]["rounds"] == 2
    [measured] = document["levels"]
    assert measured["rounds"][0]["ttft_p50_ms"] is None
    assert measured["median"]["concurrency"] == 4
    assert document["conditions"]["commit"] == "abc1234"


def test_page_is_whole_in_itself_and_escapes_names() -> None:
    limits: dict[str, Any] = {"ttft_limit_ms": 200.0, "itl_limit_ms": 30.0, "extra": "<script>"}
    rounds = [level(good_share=0.5, good_tokens_per_s=50.0, good_requests_per_s=1.0)]
    page = report_page(report(rounds, [level(concurrency=8, good_share=1.0)], **limits))
    assert page.count("<svg") == 3
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "A good request: first token within 200 ms, at most 30 ms between" in page
    assert "2 cores of X" in page and "abc1234" in page
    assert not [word for word in ("src=", "@import", "url(http", "<link") if word in page]


def test_page_of_one_level_has_no_plots() -> None:
    assert "<svg" not in report_page(report([level()], trace="t.jsonl"))
