"""What a tuning says at its end."""

from gateway.bench.machine import Conditions
from gateway.tuning.race import Standing
from gateway.tuning.report import as_table, disturbance, misses, summary
from gateway.tuning.report_page import tuning_page
from gateway.tuning.trial import Objective, Trial
from gateway.tuning.tuner import Outcome, Stage

FAST = Standing(
    "TP 1", [Trial(100, 900, 20, 40, 5, 9, 10**9), Trial(110, 900, 20, 60, 5, 9, 10**9)]
)
FAST.worths, FAST.misses = [4.6, 4.7], [0.0, 0.2]
SLOW = Standing("DP 2", [Trial(50, 900, 20, 40, 5, 9, 10**9)], out="behind TP 1 by 50 %")
DEAD = Standing("TP 2", [Trial(failure="not enough memory")], out="not enough memory")
OUTCOME = Outcome({"tp": 1}, "TP 1", FAST, [Stage("layout", [FAST, SLOW, DEAD], "TP 1")])


def test_table_has_every_candidate_and_why_it_lost() -> None:
    text = as_table(OUTCOME, Objective(), {"TP 1": 120.0})
    assert "105.0 +-  7.1" in text
    assert "chosen (predicted 120)" in text
    assert "behind TP 1 by 50 %" in text
    assert "not enough memory" in text


def test_objective_that_nothing_meets_is_missed_by_so_much() -> None:
    assert misses(OUTCOME, Objective(max_ttft_ms=40)) == [
        "time to the first token (p99): 50 ms, 25% beyond the 40 ms asked for"
    ]
    met = Outcome({"tp": 1}, "TP 2", Standing("TP 2", FAST.trials, [4.6], [-0.1]))
    assert misses(met, Objective(max_ttft_ms=40)) == []
    assert summary(OUTCOME).startswith("105.0 tokens/s, TTFT p50 20 and p99 50 ms")


def test_limits_missed_in_turn_are_missed() -> None:
    """Each mean was within its limit, so the command ended with 0 though no round had met both."""
    objective = Objective("throughput", 100, 10)
    trials = [Trial(50, 1, 1, 110, 1, 5), Trial(50, 1, 1, 80, 1, 14)]
    standing = Standing("both", trials, [1.0, 1.0], [objective.miss(trial) for trial in trials])
    assert not standing.meets
    assert misses(Outcome(standing=standing), objective) == [
        "time between tokens (p99): 14 ms, 40% beyond the 10 ms asked for"
    ]


def test_busy_machine_is_told() -> None:
    assert disturbance(OUTCOME) == ""
    busy = Standing("TP 1", [Trial(100, 900, other_cores=1.25)])
    words = disturbance(Outcome(stages=[Stage("layout", [busy], "TP 1")]))
    assert words.startswith("other programs took 1.2 cores")


def test_page_is_whole_and_draws_each_race() -> None:
    text = tuning_page(
        "a model tuned", "TP 1", OUTCOME, Objective(), {"TP 1": 120.0}, Conditions.now(), []
    )
    assert text.count("<svg") == 1
    assert "behind TP 1 by 50 %" in text
    assert "<td>105.0</td>" in text
