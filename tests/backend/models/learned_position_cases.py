"""Tiny models of opt, gpt2 and gpt_neo, which have learned positions and LayerNorm."""

from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors

_OPT: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
}
_GPT2: dict[str, Any] = {
    "vocab_size": 96,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 6,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_NEO: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "num_layers": 3,
    "num_heads": 6,
    "max_position_embeddings": 64,
    "attention_types": [[["global", "local"], 1], [["local"], 1]],
    "window_size": 9,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _transpose(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    """As GPT2Model.modify_tensors of the converter has it."""
    is_matrix = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
    return [(name, tensor.T if is_matrix else tensor)]


def _metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_feed_forward_length(4 * config.n_embd)


LEARNED_POSITIONS = {
    "opt": FamilyCase("OPTForCausalLM", _OPT, is_whole=True),
    "opt, 350m": FamilyCase(
        "OPTForCausalLM",
        _OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 32},
        is_whole=True,
    ),
    "opt, no final norm, untied": FamilyCase(
        "OPTForCausalLM",
        _OPT
        | {
            "_remove_final_layer_norm": True,
            "tie_word_embeddings": False,
            "word_embed_proj_dim": 32,
            "activation_function": "gelu",
        },
        is_whole=True,
    ),
    "opt, bare": FamilyCase(
        "OPTForCausalLM",
        _OPT | {"enable_bias": False, "layer_norm_elementwise_affine": False},
        is_whole=True,
    ),
    "gpt2": FamilyCase(
        "GPT2LMHeadModel",
        _GPT2,
        is_whole=True,
        twin=GGUFTwin("GPT2", metadata=_metadata, change=_transpose),
    ),
    "gpt2, other scales": FamilyCase(
        "GPT2LMHeadModel",
        _GPT2
        | {
            "n_inner": 96,
            "scale_attn_weights": False,
            "scale_attn_by_inverse_layer_idx": True,
            "reorder_and_upcast_attn": True,
            "activation_function": "relu",
            "tie_word_embeddings": False,
        },
        is_whole=True,
    ),
    "gpt_neo": FamilyCase("GPTNeoForCausalLM", _NEO, is_whole=True),
}
