"""Tiny models of families whose attention and MLP stand side by side."""

from typing import Any

import gguf
import torch
from torch import Tensor

from tests.backend.models.family_cases import SIZES, FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors

_NO_GROUPS = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
# Whole heads of 16, of which a quarter turns.
_NEOX = _NO_GROUPS | {"hidden_size": 96, "hidden_act": "gelu_new"}
_FALCON = {name: value for name, value in _NO_GROUPS.items() if name != "intermediate_size"}
_FALCON |= {"activation": "gelu_new", "ffn_hidden_size": 192}
_GPTJ: dict[str, Any] = {
    "vocab_size": 96,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 6,
    "n_positions": 128,
    "rotary_dim": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _neox(writer: gguf.GGUFWriter, config: Any) -> None:
    share = config.rope_parameters["partial_rotary_factor"]
    writer.add_rope_dimension_count(int(share * config.hidden_size // config.num_attention_heads))
    writer.add_parallel_residual(config.use_parallel_residual)


def _partial(writer: gguf.GGUFWriter, config: Any) -> None:
    share = config.rope_parameters["partial_rotary_factor"]
    writer.add_rope_dimension_count(int(share * config.hidden_size // config.num_attention_heads))


def _apart(tensor: Tensor, groups: int, heads: int) -> Tensor:
    """Heads that take turns, some queries, a key and a value -> queries, keys and values."""
    turns = tensor.reshape(groups, heads // groups + 2, -1, *tensor.shape[1:])
    parts = (turns[:, :-2], turns[:, -2], turns[:, -1])
    return torch.cat([part.reshape(-1, *tensor.shape[1:]) for part in parts])


def _neox_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    if "query_key_value" in name:
        heads = config.num_attention_heads
        tensor = _apart(tensor, heads, heads)
    return [(name.replace("lm_head", "embed_out"), tensor)]


def _cohere(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_logit_scale(config.logit_scale)
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    if config.model_type == "cohere2":
        writer.add_sliding_window(config.sliding_window)


def _falcon(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_tensor_data_layout("jploski")
    writer.add_feed_forward_length(config.ffn_hidden_size)
    writer.add_head_count_kv(_falcon_kv_heads(config))


def _falcon_kv_heads(config: Any) -> int:
    is_one = config.multi_query and not config.new_decoder_architecture
    return 1 if is_one else config.num_kv_heads


def _falcon_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    if "query_key_value" in name:
        tensor = _apart(tensor, _falcon_kv_heads(config), config.num_attention_heads)
    return [(name, tensor)]


PARALLEL = {
    "gpt_neox": FamilyCase(
        "GPTNeoXForCausalLM",
        _NEOX,
        is_whole=True,
        twin=GGUFTwin("GPTNEOX", metadata=_neox, change=_neox_change),
    ),
    "gpt_neox, one after the other": FamilyCase(
        "GPTNeoXForCausalLM",
        _NEOX | {"use_parallel_residual": False},
        is_whole=True,
        twin=GGUFTwin("GPTNEOX", metadata=_neox, change=_neox_change),
    ),
    "gpt_neox, no biases, old names": FamilyCase(
        "GPTNeoXForCausalLM",
        _NEOX | {"attention_bias": False, "hidden_act": "gelu", "tie_word_embeddings": True},
        is_whole=True,
        json={"rope_parameters": None, "rotary_pct": 0.25, "rotary_emb_base": 10000},
    ),
    "phi": FamilyCase(
        "PhiForCausalLM",
        {"num_key_value_heads": 6, "hidden_size": 96},
        twin=GGUFTwin("PHI2", metadata=_partial),
    ),
    "phi, groups of heads": FamilyCase("PhiForCausalLM", {"hidden_act": "relu"}),
    "cohere": FamilyCase(
        "CohereForCausalLM",
        {"logit_scale": 0.25},
        twin=GGUFTwin("COMMAND_R", metadata=_cohere),
    ),
    "cohere, norms of heads": FamilyCase(
        "CohereForCausalLM",
        {"use_qk_norm": True, "attention_bias": True, "tie_word_embeddings": False},
    ),
    "cohere2": FamilyCase(
        "Cohere2ForCausalLM",
        {"sliding_window": 10, "num_hidden_layers": 5, "logit_scale": 0.25},
        twin=GGUFTwin("COHERE2", metadata=_cohere),
    ),
    "falcon": FamilyCase(
        "FalconForCausalLM",
        _FALCON,
        is_whole=True,
        twin=GGUFTwin("FALCON", metadata=_falcon, change=_falcon_change),
        ranks=(1,),  # of its one KV head no two ranks have a part
    ),
    "falcon, newer": FamilyCase(
        "FalconForCausalLM",
        _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 3},
        is_whole=True,
        twin=GGUFTwin("FALCON", metadata=_falcon, change=_falcon_change),
    ),
    "falcon, newer, one norm": FamilyCase(
        "FalconForCausalLM",
        _FALCON
        | {"new_decoder_architecture": True, "num_kv_heads": 3, "num_ln_in_parallel_attn": 1},
        is_whole=True,
    ),
    "falcon, one after the other": FamilyCase(
        "FalconForCausalLM",
        _FALCON
        | {"parallel_attn": False, "multi_query": False, "bias": True, "activation": "gelu"},
        is_whole=True,
    ),
    "gptj": FamilyCase("GPTJForCausalLM", _GPTJ, is_whole=True),
    "gptj, all of a head turns": FamilyCase(
        "GPTJForCausalLM",
        _GPTJ | {"rotary_dim": 8, "n_inner": 96, "tie_word_embeddings": True},
        is_whole=True,
    ),
}
