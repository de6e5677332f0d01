"""Llamas whose weights are next to nothing, so that a step's time is what it costs beside them."""

import json
from pathlib import Path

import safetensors.torch
import torch

HEAD_DIM = 64
MAX_MODEL_LEN = 4096


def write_tiny_llama(
    path: Path,
    *,
    layers: int,
    hidden: int = 64,
    heads: int = 1,
    kv_heads: int = 0,
    vocab_size: int = 512,
) -> Path:
    """Write a Hugging Face directory without a tokenizer: the engine takes ids. Return it.

    MLPs have as many units as there are hidden ones. kv_heads: 0 for as many as heads.
    """
    kv_heads = kv_heads or heads
    fields = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": MAX_MODEL_LEN,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": True,
        "eos_token_id": 0,
        "bos_token_id": 0,
        "dtype": "bfloat16",
    }
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(fields))
    tensors = {
        name: torch.randn(shape).mul_(0.1).bfloat16()
        for name, shape in _shapes(layers, hidden, (heads, kv_heads), vocab_size).items()
    }
    safetensors.torch.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def _shapes(
    layers: int, hidden: int, heads: tuple[int, int], vocab_size: int
) -> dict[str, tuple[int, ...]]:
    """heads: of queries, of keys and values."""
    width, kv_width = (count * HEAD_DIM for count in heads)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.self_attn.q_proj.weight": (width, hidden),
            f"{prefix}.self_attn.k_proj.weight": (kv_width, hidden),
            f"{prefix}.self_attn.v_proj.weight": (kv_width, hidden),
            f"{prefix}.self_attn.o_proj.weight": (hidden, width),
            f"{prefix}.mlp.gate_proj.weight": (hidden, hidden),
            f"{prefix}.mlp.up_proj.weight": (hidden, hidden),
            f"{prefix}.mlp.down_proj.weight": (hidden, hidden),
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
        }
    return shapes
