"""What Qwen2's and Qwen3's fields mean; tests/backend/models has their logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import qwen2, qwen3
from backend.config.families.family import Family
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
GGUF = SIZES | {"max_position_embeddings": 64, "rms_norm_eps": 1e-6}
BOTH = pytest.mark.parametrize("family", [qwen2.FAMILY, qwen3.FAMILY], ids=["qwen2", "qwen3"])


def windows_of(family: Family, **fields: Any) -> list[int]:
    return [layer.attends.window for layer in config_of(family, SIZES | fields).spec.layers]


@BOTH
def test_window_counts_where_it_is_used(family: Family) -> None:
    assert windows_of(family, sliding_window=8, max_window_layers=0) == [0, 0, 0]
    used = {"use_sliding_window": True, "sliding_window": 8}
    assert windows_of(family, **used, max_window_layers=1) == [0, 8, 8]
    assert windows_of(family, **used) == [0, 0, 0]  # from the 29th layer on
    types = ["sliding_attention", "full_attention", "full_attention"]
    assert windows_of(family, **used, max_window_layers=1, layer_types=types) == [8, 0, 0]
    with pytest.raises(ModelError, match="and use_sliding_window that there is none"):
        windows_of(family, sliding_window=8, layer_types=types)
    with pytest.raises(ModelError, match="layer_types is no list of 3"):
        windows_of(family, layer_types=types[:2])


@BOTH
def test_gguf_files_have_no_window(family: Family) -> None:
    config = config_of(family, GGUF | {"sliding_window": 8}, "gguf")
    assert config.spec.layers[0].attends.window == 0


def test_biases_are_always_there_or_where_the_file_has_them() -> None:
    of_qwen2 = config_of(qwen2.FAMILY, SIZES).spec.layers[0].attends
    assert (of_qwen2.qkv_bias, of_qwen2.out_bias) == (True, False)
    for tensors, expected in (({}, False), ({"blk.0.attn_q.bias": (64,)}, True)):
        of_gguf = config_of(qwen2.FAMILY, GGUF, "gguf", tensors).spec.layers[0].attends
        assert (of_gguf.qkv_bias, of_gguf.out_bias) == (expected, False)
    of_qwen3 = config_of(qwen3.FAMILY, SIZES | {"attention_bias": True}).spec.layers[0].attends
    assert (of_qwen3.qkv_bias, of_qwen3.out_bias) == (True, True)


def test_heads_of_qwen3_are_128_where_the_file_does_not_say() -> None:
    assert config_of(qwen3.FAMILY, SIZES).head_dim == 128
    assert config_of(qwen3.FAMILY, SIZES | {"head_dim": 32}).head_dim == 32
    assert config_of(qwen2.FAMILY, SIZES).head_dim == 16
