"""Qwen3-MoE's fields."""

from typing import Any

import msgspec
import pytest

from backend.config.families import qwen3_moe
from backend.config.fields import Fields, FileKind
from backend.config.sources import Names
from backend.config.spec import MLP, DecoderSpec, Experts
from tests.backend.factories import tiny_config

PARTS = ("gate", "up", "down")

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_experts": 8,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 32,
    "rms_norm_eps": 1e-6,
}


def spec(kind: FileKind = "huggingface", **values: Any) -> DecoderSpec:
    fields = Fields(kind, SIZES | values, {})
    result = qwen3_moe.FAMILY.spec(fields)
    assert isinstance(result, DecoderSpec)
    assert not set(fields.left()) - {"num_attention_heads", "hidden_size"}
    return result


def test_gguf_is_renormalised_and_directories_if_they_say_so() -> None:
    """llama.cpp's graph of this architecture does it, whatever the model it was made of."""
    for found, renormalise in (
        (spec(), False),
        (spec(norm_topk_prob=True), True),
        (spec("gguf"), True),
    ):
        assert found.layers[0].mlp == Experts(8, 4, 32, renormalise=renormalise)


def test_layers_without_experts_have_an_mlp() -> None:
    layers = spec(mlp_only_layers=[1]).layers
    assert [isinstance(layer.mlp, Experts) for layer in layers] == [True, False, True]
    assert layers[1].mlp == MLP(64)


def test_window_is_that_of_all_layers_if_it_is_used() -> None:
    """max_window_layers is in every config.json of Qwen3's, and transformers does not read it."""
    for is_used, window in ((True, 10), (False, 0)):
        layers = spec(sliding_window=10, max_window_layers=2, use_sliding_window=is_used).layers
        assert [layer.attends.window for layer in layers] == [window] * 3


@pytest.mark.parametrize(
    ("names", "stem", "down"),
    [
        (
            qwen3_moe.FAMILY.gguf_names,
            "blk.0.ffn_gate_up_exps.weight",
            "blk.0.ffn_down_exps.weight",
        ),
        (
            qwen3_moe.FAMILY.hf_names,
            "layers.0.mlp.experts.gate_up_proj",
            "layers.0.mlp.experts.down_proj",
        ),
    ],
)
def test_gates_may_lie_above_what_they_gate_in_a_stack(names: Names, stem: str, down: str) -> None:
    config = tiny_config(num_layers=1)
    [layer] = config.spec.layers
    layers = (msgspec.structs.replace(layer, mlp=Experts(6, 3, 96)),)
    spec = msgspec.structs.replace(config.spec, layers=layers)
    config = msgspec.structs.replace(config, spec=spec)
    prefix = "" if stem.startswith("blk") else "model."
    stack, downs = prefix + stem, prefix + down
    embedding = "token_embd.weight" if not prefix else "model.embed_tokens.weight"
    found, _ = names.sources(config, {embedding, stack, downs})
    places = [found[f"model.layers.0.mlp.experts.4.{part}_proj.weight"] for part in PARTS]
    assert [(place.name, place.expert, place.start) for place in places] == [
        (stack, 4, 0),
        (stack, 4, 96),
        (downs, 4, 0),
    ]
