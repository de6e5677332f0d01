"""What `unisono serve` says when it is ready. Knows facts and words, no processes."""

import json
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from backend.config.model_config import ModelConfig
from backend.wire.messages import Ready
from gateway.sampling_defaults import ModelSampling
from gateway.settings import Settings

# By task: where to ask, and with what.
_EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": (
        "/v1/completions",
        {"prompt": "The capital of France is", "max_tokens": 32, "stream": True},
    ),
    "embed": ("/v1/embeddings", {"input": "The capital of France is Paris."}),
    "rerank": (
        "/v1/rerank",
        {"query": "capital of France", "documents": ["Paris", "The Seine is a river."]},
    ),
}


def ready_lines(
    config: ModelConfig,
    settings: Settings,
    readies: Sequence[Ready],
    sampling: ModelSampling,
    compute: str,
    url: str,
    model_name: str,
    took: str,
) -> list[str]:
    """Say what serves, how, what it holds, where, and how to try it.

    readies: of the groups; the first one is described. compute: as compute_text() has it.
    took: the time it needed.
    """
    ready = readies[0]
    path, example = _EXAMPLES[config.pooling.task if config.pooling else "generate"]
    body = json.dumps({"model": model_name} | example)
    key = "-H 'Authorization: Bearer sk-...' " if settings.server.api_keys else ""
    return [
        f"unisono {metadata.version('unisono')} is ready after {took}",
        f"  model      {model_name} ({config.family}, stored as {config.stored_dtype})",
        f"  compute    {compute}",
        f"  weights    {_weights(ready)}",
        f"  KV cache   {_kv_cache(ready)}",
        f"  context    {_context(readies)}",
        *(f"  note       {note}" for note in config.notes),
        *([f"  sampling   {sampling}, where a request does not say"] if str(sampling) else []),
        f"  URL        {url}/v1",
        "",
        f"curl -N {url}{path} {key}-H 'Content-Type: application/json' \\",
        f"  -d '{body}'",
    ]


def compute_text(settings: Settings, ready: Ready, shape: str) -> str:
    """Say on what, by whose kernels and in which arithmetic it computes. shape: the groups."""
    exact = ", exact" if settings.engine.exact else ""
    return f"{ready.device}, {ready.kernels}, {ready.dtype}{exact}, {shape}"


def _context(readies: Sequence[Ready]) -> str:
    """Say how long a request may be in any group, and what the model would take."""
    model = min(ready.max_model_len for ready in readies)
    held = min(ready.kv_sequence_tokens for ready in readies)
    if held >= model:
        return f"{model:,} tokens a request"
    return (
        f"{held:,} tokens a request, all that the KV cache holds of the {model:,} the model takes; "
        "--kv-cache-bytes makes it larger"
    )


def _weights(ready: Ready) -> str:
    parts = " + ".join(size_text(count) for count in ready.weight_bytes)
    ranks = "a rank" if len(ready.weight_bytes) == 1 else f"on {len(ready.weight_bytes)} ranks"
    return f"{parts} {ranks}, of it {size_text(ready.replicated_bytes)} on every rank"


def _kv_cache(ready: Ready) -> str:
    """Layers with windows take less of a longer request: what fits depends on the length then."""
    slots = ""
    if ready.num_slots:
        slots = f"{ready.num_slots:,} states of sequences ({size_text(ready.state_bytes)}) a group"
    if not ready.num_blocks:
        return slots or "none: nothing of a text is kept"
    length = min(ready.max_model_len, ready.kv_sequence_tokens)
    if ready.kv_capacity_tokens == ready.num_blocks * ready.block_size:
        tokens = f"{ready.kv_capacity_tokens:,} tokens"
    else:
        tokens = f"{ready.kv_capacity_tokens:,} tokens in requests of {length:,}"
    blocks = f"{tokens} ({size_text(ready.kv_bytes)}) a group, blocks of {ready.block_size}"
    return f"{blocks}; {slots}" if slots else blocks


def size_text(count: int) -> str:
    """Write a number of bytes in decimal units, as file listings do."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1000:.1f} kB"
