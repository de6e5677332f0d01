"""The process that measures steps tells what it found, shape by shape."""

import sys
from pathlib import Path

import msgspec
import pytest

from backend.measurement import step_times
from backend.settings import EngineSettings
from backend.wire.step_times import FromMeasurement, MeasuredEngine, NotMeasured, StepTimes
from tests.backend.factories import write_tiny_llama


def told(output: str) -> list[FromMeasurement]:
    decoder = msgspec.json.Decoder(FromMeasurement)
    return [decoder.decode(line) for line in output.splitlines()]


def started(monkeypatch: pytest.MonkeyPatch, model: Path, *arguments: str) -> None:
    settings = EngineSettings(model=str(model), kv_cache_bytes=1 << 21, block_size=4)
    engine = msgspec.json.encode(settings).decode()
    command = ["step_times", "--engine", engine, "--threads", "1", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    step_times.main()


def test_every_shape_has_its_times_or_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    shapes = ["--decodes", "1x16,4x16,1x600", "--prompts", "2x24,1x600", "--steps", "3"]
    started(monkeypatch, write_tiny_llama(tmp_path), *shapes)
    engine, *results = told(capfdbinary.readouterr().out.decode())
    assert isinstance(engine, MeasuredEngine)
    assert (engine.family, engine.threads, engine.block_size) == ("llama", 1, 4)
    found = [
        (result.kind, result.batch, result.tokens, len(result.seconds))
        for result in results
        if isinstance(result, StepTimes)
    ]
    assert found == [("decode", 1, 16, 3), ("decode", 4, 16, 3), ("prompt", 2, 24, 3)]
    missing = [result for result in results if isinstance(result, NotMeasured)]
    assert [(each.kind, each.tokens) for each in missing] == [("decode", 600), ("prompt", 600)]
    assert "the model takes 512 tokens" in missing[0].reason


def test_model_that_cannot_be_served_ends_it_with_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="unisono: "):
        started(monkeypatch, tmp_path / "none")
