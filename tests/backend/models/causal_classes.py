"""Every causal class of transformers that no family of ours knows, tried with a tiny model.

As a program it prints what became of each: `python -m tests.backend.models.causal_classes
[CLASS ...]`. A class is served with the logits of transformers' own forward, or refused in words.
"""

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.config.architectures import HF_ARCHITECTURES
from backend.config.errors import ModelError
from backend.config.foreign_classes import check_class
from tests.backend.models.tiny_engine import engine_of, logits_of

PROMPT = [5, 99, 42, 7, 250, 3, 17, 88, 123, 11, 64, 201, 9, 300, 45, 6, 77, 31, 150, 2]
# Chunks that end inside blocks, and decodes.
CHUNKS = [9, 1, 1, 8]
# Sums in another order, of logits of up to 10.
TOLERANCE = 2e-4
# What fields of a configuration are called, and what they are here.
_SIZES: dict[int, str] = {
    320: "vocab_size",
    96: "hidden_size n_embd d_model dim emb_dim embed_dim embedding_size",
    192: "intermediate_size ffn_dim d_inner d_ff n_inner dff ffn_hidden_size encoder_ffn_dim"
    " decoder_ffn_dim",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers"
    " num_decoder_layers num_experts_per_tok moe_topk num_selected_experts eos_token_id",
    6: "num_attention_heads n_head n_heads num_heads encoder_attention_heads"
    " decoder_attention_heads num_decoder_attention_heads",
    3: "num_key_value_heads num_kv_heads",
    16: "head_dim kv_channels qk_rope_head_dim qk_nope_head_dim v_head_dim rotary_dim",
    256: "max_position_embeddings n_positions n_ctx max_seq_len",
    8: "num_experts n_routed_experts num_local_experts moe_num_experts",
    64: "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size",
    7: "sliding_window window_size",
    32: "q_lora_rank kv_lora_rank qk_head_dim",
    1: "bos_token_id n_group topk_group num_expert_group first_k_dense_replace first_k_dense"
    " max_window_layers",
    0: "pad_token_id",
}
SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """error: of logits, largest; None where it is not served. words: of the refusal."""

    error: float | None = None
    words: str = ""

    def __str__(self) -> str:
        return self.words if self.error is None else f"served, logits differ by {self.error:.0e}"


def classes() -> dict[str, str]:
    """Return class -> model_type of those that are none of ours."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as TABLE

    # Of several kinds, the first names the module.
    return {name: k for k, name in reversed(TABLE.items()) if name not in HF_ARCHITECTURES}


def refusal_by_source(name: str, kind: str) -> str:
    """Return what is said of a class before anything is built; "" where nothing is."""
    try:
        check_class(name, kind)
    except ModelError as refusal:
        return str(refusal)
    return ""


def write_model(path: Path, name: str, fields: dict[str, Any]) -> Tensor:
    """Write a directory of a class, random weights; return transformers' logits of PROMPT.

    fields: of its configuration, in the place of SMALL's; None leaves one out. With a text_config
    the rest are of the whole, which also sees or hears.
    """
    import transformers

    cls = getattr(transformers, name)
    whole = cls.config_class()
    text = whole.get_text_config(decoder=True)
    default = text.to_dict()
    told = {n: size for n, size in SMALL.items() if default.get(n) is not None}
    told |= fields.get("text_config", fields)
    told = {n: value for n, value in told.items() if value is not None}
    if "text_config" in fields:
        kind = {"model_type": text.model_type}
        config = type(whole)(**fields | {"text_config": kind | told})
    else:
        config = type(text)(**told)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = cls(config).float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter.add_(0.1 * noise)
            else:
                scale = 0.3 if "embed" in parameter_name else parameter.shape[-1] ** -0.5
                parameter.copy_(scale * noise)
        model.save_pretrained(path)
        logits: Tensor = model(input_ids=torch.tensor([PROMPT]), use_cache=False).logits[0]
    return logits


def try_class(path: Path, expected: Tensor, model_impl: str) -> Outcome:
    """Serve a directory; return how far its logits are from what is expected, or why it is not."""
    try:
        engine = engine_of(path, model_impl=model_impl)
        got = (logits_of(engine, PROMPT), logits_of(engine, PROMPT, chunks=CHUNKS))
    except ModelError as refusal:
        return Outcome(words=str(refusal).replace(f"{path}", "DIRECTORY"))
    return Outcome(max(float((logits - expected).abs().max()) for logits in got))


def sweep(names: Iterable[str], own: dict[str, dict[str, Any]]) -> Iterable[tuple[str, str]]:
    """Yield each class, and what became of it. own: of some classes, fields beside SMALL."""
    kinds = classes()
    for name in names:
        if words := refusal_by_source(name, kinds[name]):
            yield name, words
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            try:
                expected = write_model(path, name, own.get(name, {}))
            except Exception as error:  # whatever the class makes of sizes that are not its own
                yield name, f"not built here: {type(error).__name__}: {error}"
                continue
            yield name, str(try_class(path, expected, "transformers"))


if __name__ == "__main__":
    from tests.backend.models.test_causal_classes import OWN

    for class_name, outcome in sweep(sys.argv[1:] or sorted(classes()), OWN):
        print(f"| {class_name} | {json.dumps(outcome.splitlines()[0], ensure_ascii=False)} |")
