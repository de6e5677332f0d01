"""LFM2's fields: what each layer is, and how wide its MLP."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import lfm2, lfm2_moe
from backend.config.spec import MLP, Experts, ShortConv
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 12288,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "norm_eps": 1e-5,
}
CONV, FULL = "conv", "full_attention"
GGUF: dict[str, Any] = SIZES | {
    "intermediate_size": 8192,
    "num_key_value_heads": [0, 0, 8, 0],
    "conv_L_cache": 3,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
}
del GGUF["norm_eps"]


def kinds_of(values: dict[str, Any], kind: Any = "huggingface") -> list[str]:
    config = config_of(lfm2.FAMILY, values, kind)
    for layer in config.spec.layers:
        assert (layer.attention is None) == (layer.state == ShortConv(2048, 3))
        assert layer.mlp == MLP(8192), "1.2B's, which is no number of its config.json"
    return [CONV if layer.state else FULL for layer in config.spec.layers]


def test_layers_are_what_layer_types_says() -> None:
    kinds = [CONV, FULL, CONV, FULL]
    assert kinds_of(SIZES | {"layer_types": kinds, "full_attn_idxs": [0]}) == kinds


def test_older_files_list_the_layers_that_attend() -> None:
    assert kinds_of(SIZES | {"full_attn_idxs": [2]}) == [CONV, CONV, FULL, CONV]
    assert kinds_of(SIZES) == [FULL] * 4


def test_gguf_layers_without_keys_are_convolutions() -> None:
    assert kinds_of(GGUF, "gguf") == [CONV, CONV, FULL, CONV]
    assert config_of(lfm2.FAMILY, GGUF, "gguf").num_kv_heads == 8


def test_mlp_width_is_as_it_stands_where_it_is_not_adjusted() -> None:
    config = config_of(lfm2.FAMILY, SIZES | {"block_auto_adjust_ff_dim": False})
    assert config.spec.layers[0].mlp == MLP(12288)
    stretched = config_of(lfm2.FAMILY, SIZES | {"block_ffn_dim_multiplier": 1.3})
    assert stretched.spec.layers[0].mlp == MLP(10752)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer_types": [CONV]}, "layer_types is no list of 4"),
        ({"layer_types": [CONV, FULL, "mamba", FULL]}, "'mamba' is not supported"),
        ({"conv_L_cache": 1}, "1 taps keeps no state"),
        ({"block_multiple_of": 0}, "block_multiple_of must be above 0"),
        ({"sliding_window": 128}, "sliding_window is not known"),
    ],
)
def test_what_no_spec_says_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_of(lfm2.FAMILY, SIZES | values)


def test_experts_stand_behind_the_dense_layers() -> None:
    values = SIZES | {"layer_types": [CONV, CONV, FULL, CONV], "routed_scaling_factor": 2.0}
    layers = config_of(lfm2_moe.FAMILY, values).spec.layers
    assert [type(layer.mlp) for layer in layers] == [MLP, MLP, Experts, Experts]
    experts = layers[2].mlp
    assert isinstance(experts, Experts)
    assert (experts.num, experts.top_k, experts.width) == (32, 4, 1792)
    assert (experts.router, experts.has_correction, experts.weight_scale) == ("sigmoid", True, 2.0)


def test_gguf_router_must_be_a_sigmoid() -> None:
    values = GGUF | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    config_of(lfm2_moe.FAMILY, values | {"expert_gating_func": 2}, "gguf")
    with pytest.raises(ModelError, match="expert_gating_func is 1"):
        config_of(lfm2_moe.FAMILY, values | {"expert_gating_func": 1}, "gguf")
