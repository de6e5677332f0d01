"""What poolers make of hidden states, by the formulas."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from backend.config.errors import ModelError
from backend.config.pooling import Dense, Pooling, PoolingMode
from backend.layers.pooler import Pooler

CPU = torch.device("cpu")
# Two sequences, of three tokens and of one.
STARTS = [0, 3, 4]
HIDDEN = torch.tensor([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0], [7.0, 8.0]])


def pooled(pooling: Pooling, folder: Path = Path()) -> list[list[float]]:
    found: list[list[float]] = Pooler(pooling, folder, CPU).pool(HIDDEN, STARTS).tolist()
    return found


@pytest.mark.parametrize(
    ("mode", "first"),
    [
        ("cls", [1, 2]),
        ("lasttoken", [5, 6]),
        ("max", [5, 6]),
        ("mean", [3, 4 / 3]),
        ("mean_sqrt_len_tokens", [9 / 3**0.5, 4 / 3**0.5]),
        ("weightedmean", [(1 + 2 * 3 + 3 * 5) / 6, (2 - 2 * 4 + 3 * 6) / 6]),
    ],
)
def test_modes(mode: PoolingMode, first: list[float]) -> None:
    # Beside another mode all states are given; the vectors stand one behind the other.
    found = pooled(Pooling("embed", (mode, "max")))
    assert found[0] == pytest.approx([*first, 5, 6])
    assert found[1] == pytest.approx([7, 8, 7, 8])


def test_one_token_s_states_are_the_vectors() -> None:
    assert pooled(Pooling("embed", ("cls",))) == HIDDEN.tolist()


def test_normalised_vectors_have_length_1() -> None:
    found = torch.tensor(pooled(Pooling("embed", ("mean",), is_normalized=True)))
    assert torch.allclose(found.norm(dim=1), torch.ones(2))


def test_dense_layers_follow_the_pooling(tmp_path: Path) -> None:
    weight, bias = torch.tensor([[1.0, 1.0]]), torch.tensor([0.5])
    (tmp_path / "2_Dense").mkdir()
    tensors = {"linear.weight": weight, "linear.bias": bias}
    safetensors.torch.save_file(tensors, tmp_path / "2_Dense" / "model.safetensors")
    dense = Dense("2_Dense", 2, 1)
    found = pooled(Pooling("embed", ("lasttoken", "cls")[:1], (dense,)), tmp_path)
    assert found[0] == pytest.approx([torch.tanh(torch.tensor(3.5)).item()])


def test_dense_layer_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "2_Dense").mkdir()
    tensors = {"linear.weight": torch.ones(3, 2), "linear.bias": torch.ones(3)}
    safetensors.torch.save_file(tensors, tmp_path / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelError, match=r"linear.weight has shape \[3, 2\], config.json says"):
        pooled(Pooling("embed", ("mean",), (Dense("2_Dense", 2, 1),)), tmp_path)
    with pytest.raises(ModelError, match="is missing"):
        pooled(Pooling("embed", ("mean",), (Dense("3_Dense", 2, 1),)), tmp_path)


@pytest.mark.parametrize(("is_raw", "expected"), [(False, [0.5, 0.880797]), (True, [0.0, 2.0])])
def test_scores_are_probabilities_unless_they_are_raw(is_raw: bool, expected: list[float]) -> None:
    pooler = Pooler(
        Pooling("rerank", ("cls",), is_raw=is_raw), Path(), CPU, lambda x: torch.tensor([0.0, 2.0])
    )
    found = pooler.pool(HIDDEN[:2], [])
    assert found.squeeze(1).tolist() == pytest.approx(expected, rel=1e-5)
