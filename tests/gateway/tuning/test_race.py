"""The race with invented measurements: who is out and when, who wins, and never a worse one."""

import random
from collections.abc import Mapping
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tuning.race import NOISES, Race
from gateway.tuning.trial import Objective, Trial

FASTEST = Objective()
LIMITED = Objective(max_ttft_ms=100.0)


def run(
    race: Race, speeds: Mapping[str, float], ttfts: Mapping[str, float] | None = None
) -> list[tuple[str, int]]:
    """Run a race whose trials always come out alike; return who was measured when."""
    turns = []
    while (turn := race.next()) is not None:
        turns.append(turn)
        ttft_ms = (ttfts or {}).get(turn[0], 10.0)
        race.record(turn[0], Trial(speeds[turn[0]], 1e6 / speeds[turn[0]], ttft_p99_ms=ttft_ms))
    return turns


def test_clear_loser_is_out_after_one_round() -> None:
    race = Race(["slow", "fast", "close"], FASTEST, max_rounds=4)
    turns = run(race, {"slow": 50, "fast": 100, "close": 99})
    assert [turn for turn in turns if turn[0] == "slow"] == [("slow", 0)]
    assert race.standings["slow"].out == "behind fast by 50 %"
    assert race.winner is not None and race.winner.name == "fast"


def test_candidates_are_measured_in_turns() -> None:
    race = Race(["a", "b"], FASTEST, max_rounds=2)
    assert run(race, {"a": 100, "b": 100}) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_tie_goes_to_the_one_named_first() -> None:
    race = Race(["default", "other"], FASTEST, max_rounds=3)
    run(race, {"default": 100, "other": 101})
    assert race.winner is not None and race.winner.name == "default"


def test_one_candidate_is_measured_once() -> None:
    race = Race(["only"], FASTEST, max_rounds=4)
    assert run(race, {"only": 100}) == [("only", 0)]
    assert race.winner is not None and race.winner.name == "only"


def test_small_steady_lead_is_seen_with_more_rounds() -> None:
    race = Race(["a", "b"], FASTEST, max_rounds=30)
    run(race, {"a": 100, "b": 106})
    assert race.winner is not None and race.winner.name == "b"
    assert len(race.standings["a"].trials) < 30


def test_limit_goes_before_speed() -> None:
    race = Race(["fast", "prompt"], LIMITED, max_rounds=3)
    run(race, {"fast": 200, "prompt": 100}, {"fast": 300.0, "prompt": 50.0})
    assert race.winner is not None and race.winner.name == "prompt"
    assert race.standings["fast"].out == "beyond a limit by 200 %"


def test_nothing_meets_a_limit_so_the_least_miss_wins() -> None:
    race = Race(["far", "near"], LIMITED, max_rounds=3)
    run(race, {"far": 200, "near": 100}, {"far": 300.0, "near": 120.0})
    assert race.winner is not None and race.winner.name == "near"
    assert not race.winner.meets
    assert LIMITED.misses(race.winner.trials[0]) == [
        "time to the first token (p99): 120 ms, 20% beyond the 100 ms asked for"
    ]


def test_latency_is_the_shortest_request() -> None:
    race = Race(["a", "b"], Objective(goal="latency"), max_rounds=3)
    while (turn := race.next()) is not None:
        race.record(turn[0], Trial(100, {"a": 900.0, "b": 400.0}[turn[0]]))
    assert race.winner is not None and race.winner.name == "b"


def test_failed_candidate_is_out_with_its_reason() -> None:
    race = Race(["a", "b"], FASTEST, max_rounds=3)
    race.record("a", Trial(failure="not enough memory"))
    assert race.next() == ("b", 0)
    race.record("b", Trial(100, 10))
    assert race.next() is None
    assert race.standings["a"].out == "not enough memory"
    assert race.winner is not None and race.winner.name == "b"


def test_failure_that_may_pass_is_measured_again_behind_others() -> None:
    """A layout was out for good, whose ranks had been silent for 9 s on a starved machine."""
    died = Trial(failure="silent for 9 s", may_pass=True)
    race = Race(["a", "b"], FASTEST, max_rounds=1)
    race.record("a", died)
    assert race.next() == ("b", 0)
    race.record("b", Trial(100, 10))
    assert race.next() == ("a", 0)
    race.record("a", Trial(200, 5))
    assert race.next() is None
    assert race.winner is not None and race.winner.name == "a"
    assert (race.winner.failed, race.winner.out) == ("silent for 9 s", "")


def test_candidate_that_fails_twice_is_out() -> None:
    died = Trial(failure="silent for 9 s", may_pass=True)
    race = Race(["a", "b"], FASTEST, max_rounds=3)
    race.record("a", Trial(200, 5))
    race.record("b", Trial(199, 5))
    race.record("a", died)
    race.record("b", Trial(199, 5))
    assert race.next() == ("a", 1)
    race.record("a", died)
    assert race.next() is None
    assert race.standings["a"].out == "silent for 9 s"
    assert race.winner is not None and race.winner.name == "b"


def test_race_in_which_all_fail_has_no_winner() -> None:
    race = Race(["a", "b"], FASTEST, max_rounds=3)
    for name in ("a", "b"):
        race.record(name, Trial(failure="it was killed"))
    assert race.next() is None
    assert race.winner is None


def test_unfinished_race_has_the_best_so_far() -> None:
    race = Race(["a", "b"], FASTEST, max_rounds=3)
    race.record("a", Trial(100, 10))
    assert race.winner is not None and race.winner.name == "a"


@given(
    speeds=st.lists(st.floats(50, 200), min_size=2, max_size=5),
    noise=st.floats(0, 0.1),
    seed=st.integers(0, 1 << 30),
)
def test_winner_never_measured_worse_beyond_noise(
    speeds: list[float], noise: float, seed: int
) -> None:
    """Whoever else was in the race, on the rounds that both ran: the winner's mean is no further
    behind than its own test calls noise."""
    rng = random.Random(seed)
    by_name = {str(number): speed for number, speed in enumerate(speeds)}
    race = Race([*by_name], FASTEST, max_rounds=5)
    while (turn := race.next()) is not None:
        speed = by_name[turn[0]] * rng.lognormvariate(0, noise)
        race.record(turn[0], Trial(speed, 1e6 / speed))
    winner = race.winner
    assert winner is not None
    for other in race.running:
        pairs = [*zip(other.worths, winner.worths, strict=True)]
        behind = sum(a - b for a, b in pairs) / len(pairs)
        assert behind <= NOISES * race._noise_so_far().spread / len(pairs) ** 0.5 + 1e-9


@given(st.permutations(["a", "b", "c"]), st.integers(0, 1 << 30))
def test_clear_winner_wins_in_any_order(names: list[str], seed: int) -> None:
    rng = random.Random(seed)
    race = Race(names, FASTEST, max_rounds=4)
    while (turn := race.next()) is not None:
        speed = {"a": 100, "b": 160, "c": 60}[turn[0]] * rng.uniform(0.97, 1.03)
        race.record(turn[0], Trial(speed, 1e6 / speed))
    assert race.winner is not None and race.winner.name == "b"


def test_worth_and_miss_are_logarithms() -> None:
    trial = Trial(tokens_per_s=100, request_ms=50, ttft_p99_ms=200, itl_p99_ms=30)
    assert FASTEST.worth(trial) == pytest.approx(log(100))
    assert FASTEST.miss(trial) == float("-inf")
    assert LIMITED.miss(trial) == pytest.approx(log(2))
    assert Objective(max_ttft_ms=400, max_itl_ms=30).miss(trial) == 0


def test_one_round_beside_busier_programs_ends_nobody() -> None:
    """Three servers alike but for a number of tokens: one had a third of the cores left."""
    for taken, rounds in ((1.7, 2), (1.4, 1)):
        race = Race(["a", "b"], FASTEST, max_rounds=3)
        race.record("a", Trial(100, 10, other_cores=1.3))
        race.record("b", Trial(40, 25, other_cores=taken))
        while (turn := race.next()) is not None:
            speed = {"a": 100, "b": 40}[turn[0]]
            race.record(turn[0], Trial(speed, 1e3 / speed, other_cores=1.3))
        assert len(race.standings["b"].trials) == rounds
        assert race.standings["b"].out == "behind a by 60 %"
