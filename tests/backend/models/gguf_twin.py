"""Writes a model of transformers as a GGUF file, as llama.cpp's converter does.

Names come from the gguf library's own map; metadata is that of the converter's TextModel. There is
no vocabulary: llama.cpp loads such a file too, and takes ids.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch
from torch import Tensor

_TOWERS = ("vision", "visual.", "audio", "multi_modal")
NamedTensors = Iterable[tuple[str, Tensor]]


def _no_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    """Every key is one of those that all families have."""


def _no_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    return [(name, tensor)]


def _no_tensors(config: Any) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True, slots=True)
class GGUFTwin:
    """What is particular to a family.

    architecture: of gguf.MODEL_ARCH. is_interleaved: rows of queries and keys lie pair by pair.
    metadata: adds the family's own keys, given transformers' configuration of the text model.
    change: a tensor by transformers' name -> those that are written in its place, by names that
    the gguf library knows. extra: further tensors by llama.cpp's names, such as rotary factors.
    is_uneven: layers differ in their sizes, which metadata has. written: what the file calls the
    architecture, where the gguf library does not know it.
    """

    architecture: str
    is_interleaved: bool = False
    metadata: Callable[[gguf.GGUFWriter, Any], None] = _no_metadata
    change: Callable[[str, Tensor, Any], NamedTensors] = _no_change
    extra: Callable[[Any], dict[str, Tensor]] = _no_tensors
    is_uneven: bool = False
    written: str = ""


def write_twin(path: Path, model: Any, twin: GGUFTwin) -> None:
    """Write a model of transformers, in float32."""
    config = model.config.get_text_config()
    architecture = gguf.MODEL_ARCH[twin.architecture]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, twin.written or gguf.MODEL_ARCH_NAMES[architecture])
    _add_metadata(writer, config, twin)
    twin.metadata(writer, config)
    for theirs, tensor in _tensors(model):
        if twin.is_interleaved:
            tensor = _interleaved(theirs, tensor, config)
        for name, part in twin.change(theirs, tensor, config):
            written = names.get_name(name, try_suffixes=(".weight", ".bias", ".scale"))
            assert written, f"the gguf library has no name for {name} of {twin.architecture}"
            writer.add_tensor(written, part.contiguous().numpy())
    for name, tensor in twin.extra(config).items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: Any) -> NamedTensors:
    """Yield what a directory holds of the text model: a tied head once, no towers."""
    embedding = model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        is_tied = name == "lm_head.weight" and tensor.data_ptr() == embedding.data_ptr()
        if not is_tied and not any(part in name for part in _TOWERS):
            yield name.replace("language_model.", ""), tensor


def _add_metadata(writer: gguf.GGUFWriter, config: Any, twin: GGUFTwin) -> None:
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    for field, add in (
        ("intermediate_size", writer.add_feed_forward_length),
        ("num_key_value_heads", writer.add_head_count_kv),
        ("rms_norm_eps", writer.add_layer_norm_rms_eps),
        ("layer_norm_eps", writer.add_layer_norm_eps),
        ("layer_norm_epsilon", writer.add_layer_norm_eps),
        ("norm_epsilon", writer.add_layer_norm_eps),
        ("num_local_experts", writer.add_expert_count),
        ("num_experts", writer.add_expert_count),
        ("num_experts_per_tok", writer.add_expert_used_count),
    ):
        if not twin.is_uneven and getattr(config, field, None) is not None:
            add(getattr(config, field))
    if not twin.is_uneven and getattr(config, "head_dim", None):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    _add_rope(writer, getattr(config, "rope_parameters", None) or {})


def _add_rope(writer: gguf.GGUFWriter, parameters: dict[str, Any]) -> None:
    rope = parameters.get("full_attention", parameters)
    if rope.get("rope_theta") is not None:
        writer.add_rope_freq_base(rope["rope_theta"])
    local = parameters.get("sliding_attention")
    if local:
        writer.add_rope_freq_base_swa(local["rope_theta"])
    match rope.get("rope_type"):
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(rope["factor"])
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
            for field, add in (
                ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
                ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
                ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
            ):
                if rope.get(field) is not None:
                    add(rope[field])


def _interleaved(name: str, tensor: Tensor, config: Any) -> Tensor:
    """Reorder the rows of each head as LlamaModel.permute does: two halves -> pair by pair."""
    if "q_proj" in name:
        heads = config.num_attention_heads
    elif "k_proj" in name:
        heads = config.num_key_value_heads
    else:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def rope_freqs(config: Any) -> dict[str, Tensor]:
    """Return the tensor of divisors that stands for llama3 scaling, as LlamaModel writes it."""
    rope = config.rope_parameters
    if rope.get("rope_type") != "llama3":
        return {}
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = rope["rope_theta"] ** (-torch.arange(0, 2 * len(scaled), 2) / (2 * len(scaled)))
    return {"rope_freqs.weight": plain / scaled}


def longrope_factors(config: Any) -> dict[str, Tensor]:
    """Return the tensors of divisors of longrope, as Phi3MiniModel writes them."""
    rope = config.rope_parameters
    return {
        f"rope_factors_{which}.weight": torch.tensor(rope[f"{which}_factor"])
        for which in ("long", "short")
        if f"{which}_factor" in rope
    }
