from pathlib import Path

import pytest

from backend.config.errors import ModelError
from gateway.nodes.model_files import SAMPLED_BYTES, model_digest, model_on_node


def test_only_a_single_file_may_have_another_name(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"weights")
    assert model_digest(tmp_path / "a.gguf") == model_digest(tmp_path / "b.gguf")
    before = model_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("no part of the model")
    assert model_digest(tmp_path) == before
    (tmp_path / "b.gguf").rename(tmp_path / "c.gguf")
    assert model_digest(tmp_path) != before


@pytest.mark.parametrize("at", [0, SAMPLED_BYTES - 1, 3 * SAMPLED_BYTES - 1])
def test_digest_sees_both_ends(tmp_path: Path, at: int) -> None:
    file = tmp_path / "model.gguf"
    data = bytearray(3 * SAMPLED_BYTES)
    file.write_bytes(data)
    before = model_digest(file)
    data[at] = 1
    file.write_bytes(data)
    assert model_digest(file) != before


def test_node_without_the_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"node n1 has no .*/model.gguf"):
        model_on_node(str(tmp_path / "model.gguf"), "", "n1")


def test_node_with_another_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"these")
    digest = model_digest(file)
    assert model_on_node(str(file), digest, "n1") == file
    file.write_bytes(b"others")
    with pytest.raises(ModelError, match="node n1 has other files"):
        model_on_node(str(file), digest, "n1")
