"""The cut of layers that `unisono config` shows."""

from pathlib import Path

import pytest

from backend.config.errors import ModelError
from gateway.planning.stage_lines import stage_lines
from tests.backend.factories import write_mixed_gguf


def test_stages_of_a_file_and_their_bytes(tmp_path: Path) -> None:
    first, last = stage_lines(str(write_mixed_gguf(tmp_path)), 2)
    assert first.startswith("stage 0: the embedding, layer 0, ") and first.endswith(" MB")
    assert last.startswith("stage 1: layer ") and ", the head, " in last


def test_more_stages_than_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--pp 64 is more stages than"):
        stage_lines(str(write_mixed_gguf(tmp_path)), 64)
