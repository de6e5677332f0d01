"""What Gemma 4's fields say of its layers; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import gemma4, gemma4_unified
from backend.config.model_config import ModelConfig
from backend.config.spec import MLP
from tests.backend.config.families.family_config import config_of, decoder_of

# Fields of text_config, of the sizes of E2B and 26B-A4B.
E2B: dict[str, Any] = {
    "hidden_size": 1536,
    "intermediate_size": 6144,
    "num_hidden_layers": 35,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "global_head_dim": 512,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
    "num_kv_shared_layers": 20,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 256,
    "vocab_size": 262144,
    "final_logit_softcapping": 30.0,
}
MIXTURE: dict[str, Any] = {
    "hidden_size": 2816,
    "intermediate_size": 2112,
    "num_hidden_layers": 30,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "num_global_key_value_heads": 2,
    "attention_k_eq_v": True,
    "sliding_window": 1024,
    "enable_moe_block": True,
    "num_experts": 128,
    "top_k_experts": 8,
    "moe_intermediate_size": 704,
    "hidden_size_per_layer_input": 0,
}
GGUF: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 512,
    "attention.key_length_swa": 256,
    "attention.value_length_swa": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope.freq_base_swa": 10000.0,
    "rope.dimension_count": 512,
    "rope.dimension_count_swa": 256,
    "rope.factors": [1.0] * 64 + [1e30] * 192,
    "sliding_window": 512,
    "sliding_window_pattern": [True] * 3 + [False, True, False],
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 256,
}


def hf(values: dict[str, Any], **changes: Any) -> ModelConfig:
    return config_of(gemma4.FAMILY, values | changes)


def gguf(**changes: Any) -> ModelConfig:
    tensors = {f"blk.{index}.attn_v.weight": (512, 2560) for index in range(6)}
    return config_of(gemma4.FAMILY, GGUF | changes, "gguf", tensors)


def widths_of(config: ModelConfig) -> list[int]:
    return [layer.mlp.width for layer in config.spec.layers if layer.mlp]


def owners(config: ModelConfig) -> list[int | None]:
    return [layer.attends.shares_kv_of for layer in config.spec.layers]


def test_last_layers_of_e2b_see_the_keys_of_two_others() -> None:
    config = hf(E2B)
    assert owners(config) == [None] * 15 + [13, 13, 13, 13, 14] * 4
    assert widths_of(config) == [6144] * 15 + [12288] * 20
    window, full = (config.spec.layers[index].attends for index in (0, 4))
    assert (window.window, full.window) == (512, 0)
    assert (config.head_dim_of(window), config.head_dim_of(full)) == (256, 512)
    assert window.scale == full.scale == 1.0 and window.v_norm and not full.k_eq_v
    assert window.rope and window.rope.scaling is None
    assert full.rope and full.rope.inv_freq(1)[63:65] == [1000000.0 ** (-126 / 512), 0.0]
    spec = decoder_of(config)
    assert spec.per_layer and spec.per_layer.width == 256 and spec.logit_softcap == 30.0
    assert all(layer.has_scalar for layer in spec.layers)


def test_mixture_has_an_mlp_beside_its_experts() -> None:
    config = hf(MIXTURE)
    window, full = (config.spec.layers[index] for index in (0, 5))
    assert window.mlp == MLP(2112, "gelu_tanh")
    experts = window.beside
    assert experts and (experts.num, experts.top_k, experts.width) == (128, 8, 704)
    assert experts.router_eps == 1e-6 and experts.has_scales and experts.activation == "gelu_tanh"
    assert config.num_kv_heads_of(window.attends) == 8 and not window.attends.k_eq_v
    assert config.num_kv_heads_of(full.attends) == 2 and full.attends.k_eq_v
    assert decoder_of(config).per_layer is None


def test_unified_model_has_its_own_defaults() -> None:
    values = {"use_bidirectional_attention": "vision"}
    config = config_of(gemma4_unified.FAMILY, values)
    assert config.max_model_len == 262144 and config.spec.layers[0].attends.window == 1024


def test_fields_of_transformers_5_23_say_the_same() -> None:
    """It writes what differs by layer, the numbers of layers filled up with zeros."""
    heads = {"head_dim": 512, "num_key_value_heads": 2}
    newer = {name: MIXTURE[name] for name in MIXTURE if "global" not in name}
    layers = {f"{index:02}": heads for index in range(5, 30, 6)}
    assert hf(newer, per_layer_config=layers) == hf(MIXTURE)


def test_gguf_file_has_the_sizes_of_full_layers() -> None:
    config = gguf()
    assert (config.head_dim, config.num_kv_heads) == (256, 2)
    window, full = (config.spec.layers[index].attends for index in (0, 3))
    assert (window.head_dim, full.head_dim) == (0, 512)
    assert owners(config) == [None] * 4 + [2, 3]
    assert not config.spec.layers[0].has_scalar
    assert decoder_of(config).logit_softcap == 30.0


def test_gguf_file_lists_heads_and_widths_that_differ() -> None:
    config = gguf(num_key_value_heads=[8, 8, 8, 2, 8, 2], intermediate_size=[64] * 4 + [128] * 2)
    assert config.num_kv_heads == 8
    assert config.num_kv_heads_of(config.spec.layers[3].attends) == 2
    assert widths_of(config) == [64] * 4 + [128] * 2


def test_gguf_layer_without_values_has_those_of_its_keys() -> None:
    tensors = {f"blk.{index}.attn_v.weight": (512, 2560) for index in (0, 1, 2)}
    config = config_of(gemma4.FAMILY, GGUF, "gguf", tensors)
    assert [layer.attends.k_eq_v for layer in config.spec.layers] == [False] * 3 + [True] + (
        [False] * 2
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_bidirectional_attention": "all"}, "would see those after them"),
        ({"num_kv_shared_layers": 35}, "num_kv_shared_layers is 35, of 35 layers"),
        ({"num_kv_shared_layers": 33}, "layer 4 would see the keys of a layer of its type"),
        ({"vocab_size_per_layer_input": 9}, "only that of the vocabulary, 262144"),
        ({"per_layer_config": {"35": {}}}, "there is no layer '35' of 35"),
        ({"per_layer_config": {"x": {}}}, "there is no layer 'x' of 35"),
        ({"per_layer_config": {"4": {"skip": ["mlp"]}}}, "head_dim and num_key_value_heads"),
        ({"per_layer_config": {"4": {"head_dim": 512}}}, "must have the same heads"),
        ({"per_layer_config": {"4": {"head_dim": "512"}}}, "not integers"),
        ({"per_layer_config": [1]}, "not an object"),
        ({"rope_parameters": {"full_attention": {}}}, "rope_parameters has no sliding_attention"),
        ({"rope_parameters": {"rope_type": "default"}}, "must have full_attention and"),
        ({"num_key_value_heads": 3}, "not a multiple"),
        ({"altup_num_inputs": 4}, "altup_num_inputs is not known"),
        ({"attention_k_eq_v": "yes"}, "not true or false"),
        (
            {
                "enable_moe_block": True,
                "num_experts": 2,
                "moe_intermediate_size": 8,
                "top_k_experts": 3,
            },
            "top_k_experts is 3",
        ),
    ],
)
def test_fields_of_directories_that_say_something_else(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        hf(E2B, **changes)


@pytest.mark.parametrize("share", [0, 1.5])
def test_share_of_a_head_that_turns_is_one(share: float) -> None:
    ropes = {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": share},
        "sliding_attention": {"rope_type": "default"},
    }
    with pytest.raises(ModelError, match="partial_rotary_factor must be above 0 and at most 1"):
        hf(E2B, rope_parameters=ropes)


def test_share_that_transformers_leaves_out_is_refused() -> None:
    ropes = {
        "full_attention": {"rope_type": "proportional"},
        "sliding_attention": {"rope_type": "default", "partial_rotary_factor": 0.5},
    }
    with pytest.raises(ModelError, match="sliding_attention needs rope_type proportional"):
        hf(E2B, rope_parameters=ropes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": [1, 2, 1, 1, 1, 1]}, "layers of one type must have the same"),
        ({"num_key_value_heads": [1, 2]}, "no list of 6 numbers"),
        ({"intermediate_size": [1, 2]}, "no list of 6 numbers"),
        ({"attention.value_length_swa": 128}, "only that of keys, 256"),
        ({"rope.dimension_count": 128}, "only that of a head, 512"),
        ({"rope.factors": None}, "rope_freqs.weight"),
        ({"rope.scaling.factor": 2.0}, "layers with a window would turn otherwise"),
        ({"num_kv_shared_layers": 3}, "is not where it should be"),
        ({"attention.clamp_kqv": 1.0}, "attention.clamp_kqv is not known"),
    ],
)
def test_keys_of_gguf_files_that_say_something_else(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        gguf(**changes)
