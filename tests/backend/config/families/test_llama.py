"""What a Llama's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.llama import FAMILY
from backend.config.spec import MLP
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GGUF = SIZES | {"max_position_embeddings": 64, "rms_norm_eps": 1e-5}
QKV = {f"blk.0.attn_{part}.bias": (64,) for part in "qkv"}


def test_one_flag_is_of_all_of_attentions_biases() -> None:
    for has_bias in (True, False):
        attention = config_of(FAMILY, SIZES | {"attention_bias": has_bias}).spec.layers[1].attends
        assert (attention.qkv_bias, attention.out_bias) == (has_bias, has_bias)


@pytest.mark.parametrize(
    ("tensors", "qkv", "out", "mlp"),
    [
        ({}, False, False, False),
        (QKV, True, False, False),
        ({"blk.0.attn_qkv.bias": (192,)}, True, False, False),
        (QKV | {"blk.0.attn_output.bias": (64,)}, True, True, False),
        ({"blk.0.ffn_gate.bias": (128,)}, False, False, True),
    ],
)
def test_biases_of_gguf_files_say_it_by_being_there(
    tensors: dict[str, tuple[int, ...]], qkv: bool, out: bool, mlp: bool
) -> None:
    layer = config_of(FAMILY, GGUF, "gguf", tensors).spec.layers[0]
    assert isinstance(layer.mlp, MLP)
    assert (layer.attends.qkv_bias, layer.attends.out_bias) == (qkv, out)
    assert layer.mlp.has_bias == mlp


def test_only_rows_of_gguf_files_are_interleaved() -> None:
    for kind, is_interleaved in (("gguf", True), ("huggingface", False)):
        config = config_of(FAMILY, GGUF, kind)  # type: ignore[arg-type]
        rope = config.spec.layers[0].attends.rope
        assert rope and rope.is_interleaved == is_interleaved


def test_window_is_none_in_gguf_and_refused_in_directories() -> None:
    """llama.cpp reads none; transformers would ignore it in silence."""
    spec = config_of(FAMILY, GGUF | {"sliding_window": 32}, "gguf").spec
    assert spec.layers[0].attends.window == 0
    with pytest.raises(ModelError, match="sliding_window is not known for llama"):
        config_of(FAMILY, SIZES | {"sliding_window": 32})
