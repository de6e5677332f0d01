"""Qwen2-MoE's fields."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import qwen2_moe
from backend.config.fields import Fields, FileKind
from backend.config.spec import DecoderSpec, Experts

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_experts": 8,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 96,
    "rms_norm_eps": 1e-6,
}


def spec(kind: FileKind = "huggingface", **values: Any) -> DecoderSpec:
    given = {name: value for name, value in (SIZES | values).items() if value is not None}
    fields = Fields(kind, given, {})
    result = qwen2_moe.FAMILY.spec(fields)
    assert isinstance(result, DecoderSpec)
    assert not set(fields.left()) - {"num_attention_heads", "hidden_size"}
    return result


def windows(**values: Any) -> list[int]:
    return [layer.attends.window for layer in spec(**values).layers]


def test_weights_are_renormalised_if_a_directory_says_so() -> None:
    plain = Experts(8, 4, 32, renormalise=False, shared_width=96, shared_gate=True)
    assert spec().layers[0].mlp == plain
    mlp = spec(norm_topk_prob=True).layers[0].mlp
    assert isinstance(mlp, Experts) and mlp.renormalise


def test_widths_absent_from_gguf_follow_from_the_mlp() -> None:
    mlp = spec("gguf", moe_intermediate_size=None, shared_expert_intermediate_size=None)
    experts = mlp.layers[0].mlp
    assert isinstance(experts, Experts)
    assert (experts.width, experts.shared_width, experts.renormalise) == (16, 64, False)


def test_windows_slide_by_turns_below_a_layer() -> None:
    """As transformers 5 has it for this family alone: Qwen2's are above that layer, all of them."""
    sliding = {"use_sliding_window": True, "sliding_window": 10}
    assert windows(**sliding, max_window_layers=4) == [10, 0, 10, 0]
    assert windows(**sliding, max_window_layers=1) == [10, 0, 0, 0]
    assert windows(sliding_window=10, max_window_layers=4) == [0] * 4
    types = ["full_attention", "sliding_attention"] * 2
    assert windows(**sliding, layer_types=types) == [0, 10, 0, 10]


def test_window_that_is_said_not_to_be_used_is_refused() -> None:
    types = ["full_attention", "sliding_attention"] * 2
    with pytest.raises(ModelError, match="layer_types says sliding_attention, and use_sliding"):
        windows(sliding_window=10, layer_types=types)
