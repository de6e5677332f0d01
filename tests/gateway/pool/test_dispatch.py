"""Promises about waiting, in the simulated time of tests/bench/dispatch.py."""

import statistics

from tests.bench.dispatch import median_ttft_s, mixed, simulate


def test_flood_of_one_key_at_most_doubles_another_s_first_token() -> None:
    """From 512 prompt tokens on; shorter ones wait for the rest of a step of 128 rows."""
    alone = median_ttft_s(512, is_flooded=False)
    assert median_ttft_s(512, is_flooded=True) <= 2 * alone


def test_pulling_groups_beat_round_robin_on_mixed_lengths() -> None:
    means = []
    for is_pulled in (True, False):
        arrivals = mixed(1, count=150)
        simulate(arrivals, 2, is_pulled=is_pulled)
        means.append(statistics.fmean(arrival.ttft_s for arrival in arrivals))
    pulled, in_turn = means
    assert pulled < 0.9 * in_turn
