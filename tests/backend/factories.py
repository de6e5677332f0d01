"""Builds tiny random Llamas on disk, as a Hugging Face directory and as a GGUF file.

Both can be served: they bring a byte-level tokenizer. The GGUF file is written the way llama.cpp's
converter does it, q and k rows interleaved, so that a reader must undo it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.torch
import tokenizers
import torch

from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.config.rope import Rope, RopeScaling
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.tensors import tensors_of
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import quantized_of

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MIN_VOCAB_SIZE = len(SPECIAL_TOKENS) + 256

# 61 merges fill the default vocabulary of 320; words share them, so that ids are not just bytes.
_MERGES = [("Ġ", letter) for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"] + [
    ("t", "h"),
    ("h", "e"),
    ("i", "n"),
    ("e", "r"),
    ("a", "n"),
    ("r", "e"),
    ("o", "n"),
    ("a", "t"),
    ("e", "n"),
]
_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny_config(
    *,
    num_layers: int = 2,
    intermediate_size: int = 160,
    rms_norm_eps: float = 1e-5,
    rope_theta: float = 10000.0,
    rope_scaling: RopeScaling | None = None,
    attention_bias: bool = False,
    mlp_bias: bool = False,
    **overrides: Any,
) -> ModelConfig:
    """Return a Llama of 2 layers, 8 query and 4 KV heads, 320 tokens; any field can be changed."""
    rope = Rope(overrides.get("head_dim", 8), rope_theta, rope_scaling)
    attention = Attention(rope, qkv_bias=attention_bias, out_bias=attention_bias)
    layer = Layer(attention, MLP(intermediate_size, has_bias=mlp_bias))
    fields: dict[str, Any] = {
        "family": "llama",
        "name": "tiny",
        "vocab_size": 320,
        "hidden_size": 64,
        "num_heads": 8,
        "num_kv_heads": 4,
        "head_dim": 8,
        "max_model_len": 512,
        "spec": DecoderSpec((layer,) * num_layers, Norm(rms_norm_eps)),
        "tie_word_embeddings": True,
        "eos_token_ids": (2,),
        "bos_token_id": 1,
        "stored_dtype": "float32",
    }
    return ModelConfig(**fields | overrides)


def rope_of(config: ModelConfig) -> Rope:
    """Return how a model's first layer turns."""
    rope = config.spec.layers[0].attends.rope
    assert rope is not None
    return rope


def write_tiny_llama(
    path: Path,
    *,
    seed: int = 0,
    tie: bool = True,
    dtype: str = "float32",
    bias: bool = False,
    **overrides: Any,
) -> Path:
    """Write a Hugging Face directory that transformers loads too, and return it.

    tie, bias: tie_word_embeddings; biases of attention and MLP. overrides: fields of ModelConfig.
    """
    settings: dict[str, Any] = {
        "attention_bias": bias,
        "mlp_bias": bias,
        "stored_dtype": dtype,
    } | overrides
    config = tiny_config(tie_word_embeddings=tie, **settings)
    path.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(
        random_tensors(config, seed), path / "model.safetensors", metadata={"format": "pt"}
    )
    generation = {"eos_token_id": list(config.eos_token_ids), "bos_token_id": config.bos_token_id}
    (path / "config.json").write_text(json.dumps(hf_fields(config), indent=1))
    (path / "generation_config.json").write_text(json.dumps(generation))
    write_tokenizer(path, config)
    return path


def random_tensors(config: ModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return weights of a scale at which logits differ clearly between tokens."""
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, config.stored_dtype)
    tensors = {}
    for name, (shape, *_) in tensors_of(config).items():
        values = torch.randn(shape, generator=generator)
        if "norm" in name:
            values = 1 + 0.1 * values
        elif name.endswith(".bias"):
            values = 0.1 * values
        else:
            values = values * (0.3 if "embed" in name else shape[-1] ** -0.5)
        tensors[name] = values.to(dtype)
    return tensors


def hf_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of a model, in the layout of transformers 5."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_model_len,
        "rms_norm_eps": config.spec.norm.eps,
        "hidden_act": "silu",
        "rope_parameters": _rope_parameters(config),
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": config.spec.layers[0].attends.qkv_bias,
        "mlp_bias": _mlp(config).has_bias,
        "eos_token_id": config.eos_token_ids[0] if config.eos_token_ids else None,
        "bos_token_id": config.bos_token_id,
        "dtype": config.stored_dtype if hasattr(torch, config.stored_dtype) else "float32",
    }


def write_tiny_gguf(
    path: Path,
    hf_dir: Path,
    qtype: str = "F32",
    *,
    extra: dict[str, tuple[npt.NDArray[np.uint8], gguf.GGMLQuantizationType]] | None = None,
    added_tokens: Sequence[str] = (),
) -> Path:
    """Write the model of a directory as a GGUF file and return its path.

    qtype: of all matrices; one that gguf can quantise to and whose blocks fit the rows.
    extra: further tensors, as raw bytes [rows, row bytes] and their type.
    added_tokens: tokens after those that have a row in the embedding.
    """
    config = load_config(hf_dir)
    writer = gguf.GGUFWriter(path, "llama")
    _add_metadata(writer, config)
    add_tokenizer(writer, config, hf_dir, added_tokens)
    kind = gguf.GGMLQuantizationType[qtype]
    for name, tensor in safetensors.torch.load_file(hf_dir / "model.safetensors").items():
        values = tensor.float().numpy()
        if ".q_proj." in name or ".k_proj." in name:
            values = _interleave(values, config.head_dim)
        if values.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(_gguf_name(name), values)
        else:
            writer.add_tensor(_gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name, (raw, raw_kind) in (extra or {}).items():
        writer.add_tensor(name, raw, raw_dtype=raw_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_mixed_gguf(
    directory: Path,
    formats: Sequence[WeightFormat] = (WeightFormat.Q4_K, WeightFormat.Q6_K),
    *,
    seed: int = 0,
    tie: bool = True,
    bias: bool = False,
    **overrides: Any,
) -> Path:
    """Write a Llama whose matrices are random blocks, of these formats in turn, and return it.

    Their order is that of tensors_of(). The rest as for write_tiny_llama; widths must be
    multiples of the blocks.
    """
    biases: dict[str, Any] = {
        "attention_bias": bias,
        "mlp_bias": bias,
        "tie_word_embeddings": tie,
    }
    sizes: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 32}
    config = tiny_config(**biases | sizes | overrides)
    write_tokenizer(directory, config)
    path = directory / "mixed.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    _add_metadata(writer, config)
    add_tokenizer(writer, config, directory, ())
    matrices = 0
    for name, (shape, *_) in tensors_of(config).items():
        if len(shape) == 1:
            values = np.ones(shape, np.float32)
            writer.add_tensor(_gguf_name(name), values if "norm" in name else 0 * values)
            continue
        weight_format = formats[matrices % len(formats)]
        size = 0.3 if "embed" in name else shape[1] ** -0.5
        weight = quantized_of(weight_format, shape[0], shape[1], seed + matrices, size)
        writer.add_tensor(_gguf_name(name), weight.blocks, raw_dtype=weight_format.ggml_type)
        matrices += 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_metadata(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_context_length(config.max_model_len)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(rope_of(config).theta)
    writer.add_layer_norm_rms_eps(config.spec.norm.eps)
    writer.add_vocab_size(config.vocab_size)
    rope = rope_of(config)
    scaling = rope.scaling
    if scaling and scaling.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling.factor)
    elif scaling:
        plain = msgspec.structs.replace(rope, scaling=None).inv_freq(config.max_model_len)
        factors = np.array(plain) / np.array(rope.inv_freq(config.max_model_len))
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))


def add_tokenizer(
    writer: gguf.GGUFWriter, config: ModelConfig, hf_dir: Path, added: Sequence[str]
) -> None:
    """Write the tokenizer of a directory into a GGUF file, and its chat template."""
    model = json.loads((hf_dir / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    tokens += [f"[PAD{index}]" for index in range(len(tokens), config.vocab_size)]
    types = [
        gguf.TokenType.CONTROL
        if token in SPECIAL_TOKENS
        else gguf.TokenType.UNUSED
        if token not in model["vocab"]
        else gguf.TokenType.NORMAL
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokens, *added])
    writer.add_token_types([*types, *[gguf.TokenType.USER_DEFINED] * len(added)])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_add_bos_token(False)
    if config.bos_token_id is not None:
        writer.add_bos_token_id(config.bos_token_id)
    if config.eos_token_ids:
        writer.add_eos_token_id(config.eos_token_ids[0])
    template = hf_dir / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text())


def add_byte_tokenizer(writer: gguf.GGUFWriter, config: ModelConfig, directory: Path) -> None:
    """Write the tokenizer of tiny models into a directory and a GGUF file, filled up to the
    model's vocabulary."""
    write_tokenizer(directory, config)
    add_tokenizer(writer, config, directory, ())


def _gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, index, part = stem.split(".", 3)
        return f"blk.{index}.{_GGUF_NAMES[part]}.{kind}"
    return f"{_GGUF_NAMES[stem]}.{kind}"


def _interleave(values: npt.NDArray[np.float32], head_dim: int) -> npt.NDArray[np.float32]:
    """Reorder the rows of each head: first half, second half -> pair by pair."""
    halves = values.reshape(-1, 2, head_dim // 2, *values.shape[1:])  # [H*D, ...] -> [H, 2, D/2]
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _rope_parameters(config: ModelConfig) -> dict[str, Any]:
    rope = rope_of(config)
    scaling = rope.scaling or RopeScaling("linear")
    kind = scaling.kind if rope.scaling else "default"
    parameters: dict[str, Any] = {"rope_type": kind, "rope_theta": rope.theta}
    if kind != "default":
        parameters["factor"] = scaling.factor
    if kind == "llama3":
        parameters["low_freq_factor"] = scaling.low_freq_factor
        parameters["high_freq_factor"] = scaling.high_freq_factor
        parameters["original_max_position_embeddings"] = scaling.original_max_position_embeddings
    return parameters


def _mlp(config: ModelConfig) -> MLP:
    mlp = config.spec.layers[0].mlp
    assert isinstance(mlp, MLP)
    return mlp


def write_tokenizer(path: Path, config: ModelConfig) -> None:
    """Write a tokenizer of bytes, filled up to the vocabulary."""
    num_merges = min(config.vocab_size - MIN_VOCAB_SIZE, len(_MERGES))
    if num_merges < 0:
        raise ValueError(f"vocab_size must be at least {MIN_VOCAB_SIZE}, every byte and specials")
    merges = _MERGES[:num_merges]
    pieces = SPECIAL_TOKENS + sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pieces += ["".join(pair) for pair in merges]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.save(str(path / "tokenizer.json"))
    fields = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[1],
        "eos_token": SPECIAL_TOKENS[2],
        "add_bos_token": False,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(fields))
