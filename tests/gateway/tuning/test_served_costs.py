"""What serving adds to steps, of times that servers were measured at."""

import subprocess

import pytest

from gateway.tuning import served_costs
from gateway.tuning.served_costs import serving_of

ALONE = {1: 1e-3, 16: 2e-3}


def test_line_goes_through_few_and_many_rows() -> None:
    serving = serving_of([(1, 2.5e-3), (16, 5.0e-3)], ALONE)
    assert serving.token_s == pytest.approx(1e-4)
    assert serving.step_s == pytest.approx(1.4e-3)


def test_one_measurement_is_a_steps() -> None:
    assert serving_of([(1, 2e-3)], ALONE) == (1e-3, 0.0)


def test_tokens_never_give_time_back() -> None:
    """Of many rows less was left than of few: others disturbed the few."""
    assert serving_of([(1, 2e-3), (16, 2.5e-3)], ALONE) == (1e-3, 0.0)


def test_engine_alone_sees_the_contexts_that_servers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was measured with contexts of 104 to 232 tokens where servers had 8 to 104: serving seemed
    to cost less than nothing with 16 rows, and was left out."""
    seen: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        seen.extend(command)
        return subprocess.CompletedProcess(command, 0, b"")

    monkeypatch.setattr(subprocess, "run", run)
    served_costs.engine_steps({}, 1)
    first, steps = served_costs.PROMPT_TOKENS, served_costs.TOKENS
    assert seen[seen.index("--decodes") + 1] == f"1x{first},16x{first}"
    assert seen[seen.index("--steps") + 1] == str(steps)
