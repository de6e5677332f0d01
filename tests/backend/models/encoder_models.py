"""Tiny random encoders, written by transformers, and what it computes of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.pooling_scheduler import PoolingScheduler
from backend.scheduler.sequence import Sequence as Seq
from backend.settings import EngineSettings
from backend.wire.sampling import SamplingParams

VOCAB_SIZE = 96
# Of which our kernels take any.
BLOCK_SIZE = 16
# Two of a like length, one alone, one of a single token.
TEXTS = [[5, 6, 7, 8, 9], [10, 11, 12], list(range(4, 44)), [50], [20, 21, 22, 23, 24, 25, 26]]
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True, slots=True)
class EncoderCase:
    """A class of transformers', by name, and the fields of its config beside SIZES."""

    model: str
    config: dict[str, Any] = field(default_factory=dict)


_IDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
# Four layers, of which two see five tokens on each side.
_MODERN = _IDS | {
    "cls_token_id": 1, "sep_token_id": 2, "num_hidden_layers": 4, "local_attention": 10
}  # fmt: skip
_BIASED = {"norm_bias": True, "mlp_bias": True, "attention_bias": True}

CASES = {
    "bert": EncoderCase("BertModel"),
    "bert_relu": EncoderCase("BertModel", {"hidden_act": "relu", "layer_norm_eps": 1e-3}),
    "roberta": EncoderCase("RobertaModel", {"pad_token_id": 1, "type_vocab_size": 1}),
    "xlm_roberta": EncoderCase("XLMRobertaModel", {"pad_token_id": 1, "type_vocab_size": 1}),
    "mpnet": EncoderCase("MPNetModel", {"pad_token_id": 1}),
    "modernbert": EncoderCase("ModernBertModel", _MODERN),
    "modernbert_biases": EncoderCase("ModernBertModel", _MODERN | _BIASED),
    "nomic_bert": EncoderCase("NomicBertModel", _IDS),
    "jina_embeddings_v3": EncoderCase("JinaEmbeddingsV3Model", _IDS),
    "gte": EncoderCase("GteModel", _IDS),
    "gte_no_types": EncoderCase("GteModel", _IDS | {"type_vocab_size": 0}),
    "eurobert": EncoderCase("EuroBertModel", _IDS | {"num_key_value_heads": 3, "mask_token_id": 3}),
}
CROSS_ENCODERS = {
    "bert": EncoderCase("BertForSequenceClassification", {"num_labels": 1}),
    "roberta": EncoderCase("RobertaForSequenceClassification", {"num_labels": 1}),
    "mpnet": EncoderCase("MPNetForSequenceClassification", {"num_labels": 1}),
    "modernbert": EncoderCase("ModernBertForSequenceClassification", _MODERN | {"num_labels": 1}),
    "modernbert_mean": EncoderCase(
        "ModernBertForSequenceClassification",
        _MODERN | {"num_labels": 1, "classifier_pooling": "mean", "classifier_bias": True},
    ),
    "nomic_bert": EncoderCase("NomicBertForSequenceClassification", _IDS | {"num_labels": 1}),
    "jina_embeddings_v3": EncoderCase(
        "JinaEmbeddingsV3ForSequenceClassification", _IDS | {"num_labels": 1}
    ),
    "gte": EncoderCase("GteForSequenceClassification", _IDS | {"num_labels": 1}),
    # Decoders, by their last token.
    "qwen3": EncoderCase(
        "Qwen3ForSequenceClassification",
        _IDS | {"num_labels": 1, "num_key_value_heads": 3, "head_dim": 16},
    ),
    "llama": EncoderCase("LlamaForSequenceClassification", _IDS | {"num_labels": 1}),
    "gpt2": EncoderCase("GPT2ForSequenceClassification", _IDS | {"num_labels": 1}),
}


def write_model(directory: Path, case: EncoderCase) -> Any:
    """Write a random model to a directory; return transformers' own, in float32."""
    torch.manual_seed(3)
    kind = getattr(transformers, case.model)
    model = kind(kind.config_class(**SIZES | case.config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # As they are initialised, norms, biases and scores would hide what is done with them.
            width = 0.3 if "LayerNorm" in name or name.endswith("bias") else 0.1
            parameter.add_(torch.randn_like(parameter) * width)
    model.save_pretrained(directory)
    return model


def engine_of(model: Path, tp: TensorParallel | None = None, **settings: Any) -> Engine:
    """Build a rank: float32 on the CPU unless settings say otherwise."""
    group = tp or TensorParallel()
    defaults = {
        "device": "cpu",
        "dtype": "float32",
        "kv_cache_bytes": 1 << 21,
        "block_size": BLOCK_SIZE,
    }
    told = EngineSettings(model=str(model), tp=group.size, **{**defaults, **settings})
    return build_engine(told, group, lambda phase, fraction: None)


def scheduler_of(engine: Engine, budget: int = 64) -> PoolingScheduler:
    """Return what schedules an engine's steps, of `budget` tokens at most."""
    return PoolingScheduler(
        BlockPool(engine.num_blocks, BLOCK_SIZE),
        max_num_seqs=8,
        max_num_batched_tokens=budget,
        max_model_len=engine.max_model_len,
        vocab_size=engine.config.vocab_size,
        groups=engine.groups,
        runs_whole=engine.config.runs_whole,
    )


def run_texts(
    engine: Engine,
    scheduler: PoolingScheduler,
    texts: Sequence[list[int]],
    segments: Sequence[int] | None = None,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Run texts together; return their vectors, [N, width]."""
    for n, text in enumerate(texts):
        second = segments[n] if segments else 0
        params = SamplingParams(max_tokens=0)
        scheduler.add(Seq((0, n), text, len(text), params, second_segment=second))
    found: dict[int, bytes] = {}
    while (plan := scheduler.schedule()) is not None:
        result = engine.runner.run(plan)
        for _, output in scheduler.commit_vectors(plan, result.vectors):
            assert output.seq_id not in found
            found[output.seq_id] = output.vector
        scheduler.check()
    assert not scheduler.has_work
    return np.stack([np.frombuffer(found[n], "<f4") for n in range(len(texts))])


def vectors_of(
    engine: Engine,
    texts: Sequence[list[int]],
    *,
    segments: Sequence[int] | None = None,
    budget: int = 64,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Run texts in steps of `budget` tokens at most; return their vectors, [N, width]."""
    return run_texts(engine, scheduler_of(engine, budget), texts, segments)
