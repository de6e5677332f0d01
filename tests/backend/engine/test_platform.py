"""What is asked for and not to be had is refused, with what to do about it."""

import runpy
import sys

import pytest
import torch

import backend.native
from backend.config.model_config import ModelError
from backend.engine.platform import select_ops
from backend.settings import EngineSettings
from tests.backend.factories import tiny_config


def test_kernels_not_built_are_refused_with_the_way_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "backend.native._kernels", None)
    fresh = runpy.run_path(str(backend.native.__file__))
    assert fresh["kernels"] is None
    monkeypatch.setattr("backend.engine.platform.NativeOps.takes", lambda *shape: False)
    monkeypatch.setattr("backend.engine.platform.absence", fresh["absence"])
    settings = EngineSettings(model="m", kernels="native")
    with pytest.raises(ModelError) as refusal:
        select_ops(settings, torch.bfloat16, torch.device("cpu"), tiny_config())
    lines = str(refusal.value).splitlines()
    assert lines[0] == "--kernels native: the kernels were not built when Unisono was installed"
    assert len(lines) <= 5 and "gcc" in lines[1] and "pip install" in lines[2]
