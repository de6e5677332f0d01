from pathlib import Path

import pytest

from backend.measurement import step_costs
from backend.measurement.step_costs import TinyEngine, scheduler_costs
from backend.measurement.timing import seconds_of_each
from backend.settings import EngineSettings


def test_tiny_model_runs_decodes_and_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_costs, "BUDGET_S", 0.0)
    monkeypatch.setattr(step_costs, "KV_BYTES", 1 << 22)
    engine = TinyEngine(tmp_path / "model", EngineSettings(), layers=1, heads=2, kv_heads=1)
    assert engine.decode_s(2, 8) > 0
    assert engine.decode_s(2, 8, step_costs.SAMPLED) > 0
    one, several = seconds_of_each([engine.prompts(1, 40), engine.prompts(2, 20)], 0.0)
    assert one > 0 and several > 0


def test_scheduler_costs_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_costs, "seconds_of", lambda work, **limits: work() or 1.0)
    step_s, row_s = scheduler_costs()
    assert (step_s, row_s) == (1.0, 0.0)
