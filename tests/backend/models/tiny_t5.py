"""Tiny random T5s, written by transformers, and what it computes of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import safetensors.torch
import torch
from torch import Tensor

from backend.engine.engine import Engine
from backend.ops.batch import Batch
from backend.step import PlannedSequence, build_plan

BLOCK_SIZE = 4
# Heads of 8 numbers, 6 of them: more than the width of the model.
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 6,
    # Few, so that short inputs reach all of them.
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
# GGUF has no key for the distance, which is T5's then.
GGUF_SIZES = {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}


@dataclass(frozen=True, slots=True)
class T5Case:
    """A model that transformers can write.

    architecture: the class. fields: of its configuration, beside SIZES. has_own_head: the head in
    its file is not the embedding. scale: what transformers' logits are divided by to be ours.
    """

    architecture: str
    fields: dict[str, Any] = field(default_factory=dict)
    has_own_head: bool = False
    scale: float = 1.0


CASES = {
    "flan": T5Case(
        "T5ForConditionalGeneration",
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        has_own_head=True,
    ),
    "t5": T5Case("T5ForConditionalGeneration"),
    "mt5": T5Case(
        "MT5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu"}, has_own_head=True
    ),
    "tied umt5": T5Case("UMT5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu"}),
    # transformers 5.23 scales the logits of any UMT5, 4.57 did those of tied ones alone.
    "umt5": T5Case(
        "UMT5ForConditionalGeneration",
        {"feed_forward_proj": "gated-gelu"},
        has_own_head=True,
        scale=32**-0.5,
    ),
}


class TinyT5:
    """A case's model on disk, and transformers' own of the same weights, in float32."""

    def __init__(self, case: T5Case, path: Path) -> None:
        import transformers

        torch.manual_seed(0)
        architecture = getattr(transformers, case.architecture)
        config = architecture.config_class(**SIZES | case.fields)
        architecture(config).save_pretrained(path)
        _spread(path / "model.safetensors", case.has_own_head)
        self.path = path
        self._scale = case.scale
        self._model = architecture.from_pretrained(path, dtype=torch.float32).eval()

    def logits(self, inputs: list[int], decoder_ids: list[int]) -> Tensor:
        """Return the logits after each of the decoder's tokens, [T, vocabulary]."""
        with torch.inference_mode():
            found: Tensor = self._model(
                input_ids=torch.tensor([inputs]), decoder_input_ids=torch.tensor([decoder_ids])
            ).logits[0]
        return found / self._scale

    def generate(self, inputs: list[int], num_tokens: int) -> list[int]:
        """Return what generate() answers, greedily, without what it begins with."""
        found = self._model.generate(
            torch.tensor([inputs]), do_sample=False, num_beams=1, max_new_tokens=num_tokens
        )
        ids: list[int] = found[0, 1:].tolist()
        return ids


def input_of(length: int, seed: int = 0) -> list[int]:
    """Return an encoder's input, which ends as T5's do."""
    ids = [(7 * i * i + 11 * i + 5 + 3 * seed) % 90 + 3 for i in range(length - 1)]
    return [*ids, 1]


class DecoderRun:
    """One sequence of an engine, block tables and all, run step by step without a scheduler."""

    def __init__(self, inputs: list[int], first_block: int = 0, num_tokens: int = 40) -> None:
        self.inputs = inputs
        num_cross = -(-len(inputs) // BLOCK_SIZE)
        num_own = -(-num_tokens // BLOCK_SIZE)
        self._cross = [*range(first_block, first_block + num_cross)]
        self._own = [*range(first_block + num_cross, first_block + num_cross + num_own)]
        self.end_block = first_block + num_cross + num_own
        self._num_run = 0

    def plan(self, token_ids: list[int]) -> PlannedSequence:
        """Run these tokens next, and before the first of them the encoder."""
        start, self._num_run = self._num_run, self._num_run + len(token_ids)
        return PlannedSequence(
            token_ids,
            start,
            self._own[: -(-self._num_run // BLOCK_SIZE)],
            0,
            None,
            cross_table=self._cross,
            num_encoder_tokens=len(self.inputs),
            encoder_ids=[] if start else self.inputs,
        )


def logits_of(engine: Engine, planned: Sequence[PlannedSequence], step: int = 1) -> Tensor:
    """Return the logits after all tokens of a step, [T, this rank's words]."""
    plan = build_plan(step, planned, [], BLOCK_SIZE)
    batch = Batch.from_plan(plan, engine.device)
    batch.output_tokens = torch.arange(plan.num_tokens)
    with torch.inference_mode():
        return engine.model.logits(engine.model.forward(batch, engine.runner._kv_cache))


def write_gguf(path: Path, model: Path) -> None:
    """Write a directory as llama.cpp's converter does, without a vocabulary."""
    config = json.loads((model / "config.json").read_text())
    num_layers = config["num_layers"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, num_layers)
    writer = gguf.GGUFWriter(path, "t5")
    writer.add_tokenizer_model("none")
    writer.add_context_length(512)
    writer.add_embedding_length(config["d_model"])
    writer.add_feed_forward_length(config["d_ff"])
    writer.add_block_count(num_layers)
    writer.add_decoder_block_count(config["num_decoder_layers"])
    writer.add_head_count(config["num_heads"])
    writer.add_key_length(config["d_kv"])
    writer.add_value_length(config["d_kv"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_relative_attn_buckets_count(config["relative_attention_num_buckets"])
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    writer.add_decoder_start_token_id(config["decoder_start_token_id"])
    for name, tensor in safetensors.torch.load_file(model / "model.safetensors").items():
        written = names.get_name(name, try_suffixes=(".weight",))
        assert written, f"the gguf library has no name for {name}"
        writer.add_tensor(written, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _spread(path: Path, has_own_head: bool) -> None:
    """Make weights of a scale at which logits differ clearly, and biases that matter."""
    tensors = safetensors.torch.load_file(path)
    generator = torch.Generator().manual_seed(1)
    changed = {}
    for name, tensor in tensors.items():
        noise = torch.randn(tensor.shape, generator=generator)
        if "relative_attention_bias" in name:
            changed[name] = noise
        elif "layer_norm" in name:
            changed[name] = 1 + 0.1 * noise
        elif name == "shared.weight":
            changed[name] = noise
        elif name.endswith((".q.weight", ".k.weight")):
            changed[name] = noise * tensor.shape[1] ** -0.5 * 8**-0.25
        else:
            changed[name] = noise * tensor.shape[-1] ** -0.5
    if has_own_head:
        shape = changed["shared.weight"].shape
        changed["lm_head.weight"] = torch.randn(shape, generator=generator) * 0.2
    safetensors.torch.save_file(changed, path, metadata={"format": "pt"})
