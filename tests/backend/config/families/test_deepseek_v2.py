"""DeepSeek V2's fields: how experts are chosen."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import deepseek_v2
from backend.config.spec import Experts, Latent
from tests.backend.config.families.family_config import config_of, decoder_of
from tests.backend.config.families.test_deepseek_v3 import PUBLISHED

# What DeepSeek-V2-Lite has otherwise.
LITE: dict[str, Any] = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 1408,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_key_value_heads": 16,
    "q_lora_rank": None,
    "rope_scaling": PUBLISHED["rope_scaling"] | {"mscale": 0.707, "mscale_all_dim": 0.707},
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_group": 1,
    "topk_method": "greedy",
}


def layer(**changes: Any) -> tuple[Latent | None, object]:
    """Return the compressed keys and the experts of the last layer."""
    values = PUBLISHED | LITE | changes
    del values["num_nextn_predict_layers"]
    last = decoder_of(config_of(deepseek_v2.FAMILY, values)).layers[-1]
    return last.attends.latent, last.mlp


def test_lite_chooses_of_all_experts() -> None:
    plain = Experts(64, 6, 1408, renormalise=False, shared_width=2816, group_score="best")
    assert layer() == (Latent(512, 64, 128, 128), plain)
    grouped = layer(n_group=8, topk_group=3, routed_scaling_factor=16.0)[1]
    assert isinstance(grouped, Experts)
    assert (grouped.num_groups, grouped.weight_scale) == (1, 16.0)


def test_groups_are_as_good_as_their_best_expert() -> None:
    found = layer(topk_method="group_limited_greedy", n_group=8, topk_group=3)[1]
    assert isinstance(found, Experts)
    assert (found.num_groups, found.top_groups, found.group_score) == (8, 3, "best")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm_topk_prob": True}, "norm_topk_prob is True: weights of the chosen stay"),
        ({"topk_method": "noaux_tc"}, "topk_method 'noaux_tc' is not supported"),
        ({"scoring_func": "sigmoid"}, "scoring_func is 'sigmoid'"),
        ({"mlp_bias": True}, "mlp_bias is True"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        layer(**changes)
