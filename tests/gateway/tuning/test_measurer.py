"""What of a level's figures trials are compared by."""

from math import nan
from pathlib import Path

import pytest

from gateway.bench.death import ServerDeath
from gateway.bench.launched_server import ServerDied
from gateway.bench.load import LevelResult
from gateway.tuning import measurer
from gateway.tuning.journal import Journal
from gateway.tuning.measurer import Measurer, trial_of
from gateway.tuning.trial import Objective
from tests.gateway.bench.factories import level


def test_answers_of_one_token_have_no_gaps(tmp_path: Path) -> None:
    """Their NaN was beyond every limit, and no trial that was kept could be read again."""
    trial = trial_of(level(itl_p50_ms=nan, itl_p99_ms=nan), 10**9)
    assert (trial.itl_p50_ms, trial.itl_p99_ms) == (0.0, 0.0)
    assert Objective(max_itl_ms=50).miss(trial) < 0
    Journal(tmp_path / "trials", {}).keep("layout", "TP 1", 0, {}, trial)
    assert Journal(tmp_path / "trials", {}).find("layout", "TP 1", 0, {}) == trial


def test_failed_requests_are_no_figures() -> None:
    trial = trial_of(level(num_errors=2, first_error="HTTP 500"), 10**9)
    assert trial.failure == "2 requests failed: HTTP 500" and not trial.tokens_per_s
    assert trial.may_pass


@pytest.mark.parametrize("is_out_of_memory", [False, True])
def test_dead_server_may_do_better_unless_memory_ran_out(
    monkeypatch: pytest.MonkeyPatch, is_out_of_memory: bool
) -> None:
    def died(settings: object) -> None:
        raise ServerDied(ServerDeath("silent for 9 s", "", is_out_of_memory))

    async def never(*given: object) -> LevelResult:
        raise AssertionError("no server was there")

    monkeypatch.setattr(measurer, "LaunchedServer", died)
    trial = Measurer({}, never).measure({})
    assert (trial.failure, trial.may_pass) == ("silent for 9 s", not is_out_of_memory)
