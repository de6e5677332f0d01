"""What tells models apart, and what does not."""

from pathlib import Path

import msgspec

from backend.config.identity import model_identity
from backend.config.load import load_config
from tests.backend.factories import write_tiny_llama


def test_identity_is_of_the_model_not_of_its_files(tmp_path: Path) -> None:
    one, two = (load_config(write_tiny_llama(tmp_path / name)) for name in ("one", "two"))
    assert one.name != two.name and model_identity(one) == model_identity(two)
    stored = msgspec.structs.replace(one, stored_dtype="Q4_1", notes=("a note",))
    assert model_identity(stored) == model_identity(one)
    other = load_config(write_tiny_llama(tmp_path / "other", head_dim=16))
    assert model_identity(other) != model_identity(one)
