"""What `unisono serve` shows a person while it starts and when it is ready.

Knows facts and words, no processes. Lines go to standard error: standard output stays free.
"""

import json
import sys
from dataclasses import dataclass, field
from importlib import metadata
from typing import TextIO

from backend.config import ModelConfig
from backend.memory import kv_bytes_per_token
from backend.settings import EngineSettings
from backend.wire.control import Progress
from backend.wire.messages import Ready


def ready_lines(
    config: ModelConfig, settings: EngineSettings, ready: Ready, url: str, model_name: str
) -> list[str]:
    """Say what serves, how, what it holds, where, and how to try it."""
    kv_bytes = ready.kv_capacity_tokens * kv_bytes_per_token(config, ready.dtype)
    exact = ", exact" if settings.exact else ""
    body = json.dumps(
        {
            "model": model_name,
            "prompt": "The capital of France is",
            "max_tokens": 32,
            "stream": True,
        }
    )
    return [
        f"unisono {metadata.version('unisono')} is ready",
        f"  model      {model_name} ({config.architecture}, stored as {config.stored_dtype})",
        f"  compute    {ready.device}, {ready.dtype}{exact}, TP {settings.tp} x DP {settings.dp}",
        f"  weights    {_weights(ready)}",
        f"  KV cache   {ready.kv_capacity_tokens:,} tokens ({_size(kv_bytes)}) a group, "
        f"blocks of {ready.block_size}",
        f"  context    {ready.max_model_len:,} tokens a request",
        f"  URL        {url}/v1",
        "",
        f"curl -N {url}/v1/completions -H 'Content-Type: application/json' \\",
        f"  -d '{body}'",
    ]


def _weights(ready: Ready) -> str:
    parts = " + ".join(_size(count) for count in ready.weight_bytes)
    ranks = "a rank" if len(ready.weight_bytes) == 1 else f"on {len(ready.weight_bytes)} ranks"
    return f"{parts} {ranks}, of it {_size(ready.replicated_bytes)} on every rank"


def _size(count: int) -> str:
    """Decimal units, as in file listings."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1000:.1f} kB"


@dataclass(slots=True)
class ProgressLine:
    """Shows how far the ranks are: one rewritten line on a terminal, one line a phase elsewhere."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _fractions: dict[str, float] = field(default_factory=dict)
    _phase: str = ""

    def show(self, title: str, progress: Progress) -> None:
        """Take a rank's progress; the slowest rank decides what is shown."""
        if progress.phase != self._phase and progress.fraction < 1:
            self.end()
            self._phase = progress.phase
            self._fractions = {}
            if not self.stream.isatty():
                print(f"unisono: {progress.phase} ...", file=self.stream, flush=True)
        if progress.phase == self._phase:
            self._fractions[title] = progress.fraction
        if self.stream.isatty():
            percent = 100 * min(self._fractions.values(), default=0)
            print(
                f"\runisono: {self._phase} {percent:3.0f} %", end="", file=self.stream, flush=True
            )

    def end(self) -> None:
        """Finish the line under way, so that others can be printed."""
        if self._phase and self.stream.isatty():
            print(file=self.stream)
        self._phase = ""
