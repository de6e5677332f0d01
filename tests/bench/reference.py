"""The same checkpoint in float32 by the op table's oracle: greedy text and what it is likely to be.

It takes minutes, so the answer is kept in the cache directory, under a name that follows from the
model's bytes and from what was asked.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.distributed.tensor_parallel import TensorParallel
from backend.layers.compute_context import ComputeContext
from backend.linear.registry import create_method
from backend.models.model import Model
from backend.models.registry import load_model
from backend.ops.reference import ReferenceOps
from backend.placement.sharding import split_model
from backend.weights.checkpoint import open_checkpoint
from gateway.default_model import cache_directory
from tests.bench.cases import Case
from tests.bench.forced import Forcer

# Tokens of a distribution that are kept one by one; the rest is one more outcome.
NUM_KEPT = 256
GREEDY_ROWS = 25

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the reference says of the judged tokens of some cases.

    C cases of P judged tokens each. top_ids, top_scores: [C, P, NUM_KEPT], the likeliest tokens in
    order and their log-probabilities; scores: [C, P], of the tokens that are there.
    """

    top_ids: Ids
    top_scores: Floats
    scores: Floats


@dataclass(frozen=True, slots=True)
class Reference:
    """The prompts with their greedy continuations, the windows of the text, and both judged."""

    prompts: list[Case]
    windows: list[Case]
    of_prompts: Judgement
    of_windows: Judgement


def get_reference(
    model: Path,
    prompts: list[list[int]],
    num_tokens: int,
    windows: list[Case],
    *,
    fresh: bool = False,
) -> Reference:
    """Return what is kept for this question; compute and keep it first if need be.

    num_tokens: how far each prompt is continued.
    """
    path = (
        cache_directory()
        / "numerics"
        / f"{_digest(model, prompts, num_tokens, windows)}.safetensors"
    )
    if fresh or not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compute(path, model, prompts, num_tokens, windows)
    kept = load_file(path)
    continued = [
        Case(prompt + more.tolist(), len(prompt))
        for prompt, more in zip(prompts, kept["continuations"], strict=True)
    ]
    first, second = (
        Judgement(*(kept[f"{name}_{part}"] for part in Judgement.__slots__))
        for name in ("prompts", "windows")
    )
    return Reference(continued, windows, first, second)


def _digest(model: Path, prompts: list[list[int]], num_tokens: int, windows: list[Case]) -> str:
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(repr((prompts, num_tokens, windows, NUM_KEPT)).encode())
    return digest.hexdigest()[:24]


def _compute(
    path: Path, model: Path, prompts: list[list[int]], num_tokens: int, windows: list[Case]
) -> None:
    longest = max(*(len(ids) + num_tokens for ids in prompts), *(len(c.ids) for c in windows))
    config = load_config(model)
    forcer = Forcer(_oracle(model, config, longest), config, torch.float32, GREEDY_ROWS, longest)
    continued = forcer.greedy(prompts, num_tokens, GREEDY_ROWS)
    kept = {"continuations": np.array([case.ids[case.start :] for case in continued], np.int32)}
    for name, cases in (("prompts", continued), ("windows", windows)):
        judgement = _judge(forcer, cases)
        kept |= {f"{name}_{part}": getattr(judgement, part) for part in Judgement.__slots__}
    partial = path.with_suffix(f".{os.getpid()}.safetensors")
    save_file(kept, partial)
    partial.replace(path)


def _oracle(model: Path, config: ModelConfig, max_len: int) -> Model:
    dtype, device = torch.float32, torch.device("cpu")
    method = create_method("none", "torch", dtype, device)
    context = ComputeContext(dtype, device, ReferenceOps(), method, TensorParallel())
    [shard] = split_model(config, 1)
    checkpoint = open_checkpoint(model, config)
    loaded = load_model(config, checkpoint, shard, context, max_len, lambda fraction: None)
    checkpoint.close()
    return loaded


def _judge(forcer: Forcer, cases: list[Case]) -> Judgement:
    shape = (len(cases), len(cases[0]))
    judgement = Judgement(
        np.empty((*shape, NUM_KEPT), np.int32),
        np.empty((*shape, NUM_KEPT), np.float32),
        np.empty(shape, np.float32),
    )
    for logits in forcer.prefill(cases):
        scores = logits.rows.log_softmax(-1)
        place = (logits.case, slice(logits.start, logits.start + len(scores)))
        top = scores.topk(NUM_KEPT)
        judgement.top_ids[place], judgement.top_scores[place] = top.indices, top.values
        judgement.scores[place] = scores_of(scores, cases[logits.case], logits.start)
    return judgement


def scores_of(scores: Tensor, case: Case, start: int) -> Tensor:
    """Pick from log-probabilities [n, vocabulary] those of a case's judged tokens from `start`."""
    first = case.start + start
    tokens = torch.tensor(case.ids[first : first + len(scores)])
    return scores.gather(1, tokens[:, None]).flatten()
