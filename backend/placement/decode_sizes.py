"""For which sizes a step of decodes is captured as a CUDA graph, and what the graphs take.

A graph has a fixed number of rows and a fixed bound for contexts. A step takes the smallest that
it fits; rows that are left over are padding. memory_plan.py sets memory aside by it,
engine/decode_graphs.py captures by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.config.model_config import ModelConfig
from backend.settings import EngineSettings

# Up to so many rows sizes are so far apart: a step of few rows waits for weights, which cost the
# same for any number of them, so padding costs next to nothing there; later an eighth at most.
ROW_STEPS = ((4, 0), (64, 8), (128, 16), (256, 32), (1 << 30, 64))
# Programs of attention that find no keys cost about a microsecond for each wave of them, so bounds
# for contexts are four times apart.
FIRST_CONTEXT = 1024
CONTEXT_FACTOR = 4
# What the driver keeps of a captured kernel, and how many of them a layer has: products, norms,
# rotation, attention in pieces, gates, sums over ranks. Reckoned from what others tell, some 10 MiB
# a graph of 32 layers, and not measured here: a start's line `graphs=N bytes=B` has both.
NODE_BYTES = 16 << 10
NODES_PER_LAYER = 16
NODES_BESIDE = 16


@dataclass(frozen=True, slots=True)
class DecodeSize:
    """A step of so many rows at most, with contexts of so many tokens at most."""

    rows: int
    context: int


@dataclass(frozen=True, slots=True)
class DecodeSizes:
    """All sizes: each number of rows with each bound for contexts, both ascending."""

    rows: tuple[int, ...]
    contexts: tuple[int, ...]

    @classmethod
    def of(cls, max_num_seqs: int, max_model_len: int) -> "DecodeSizes":
        """Return the sizes that any step of decodes fits."""
        return cls(_row_counts(max_num_seqs), _contexts(max_model_len))

    @property
    def all(self) -> list[DecodeSize]:
        """The largest first: what it needs serves all others."""
        return [
            DecodeSize(rows, context)
            for context in reversed(self.contexts)
            for rows in reversed(self.rows)
        ]

    def fit(self, num_rows: int, longest: int) -> DecodeSize | None:
        """Return the smallest size for so many rows and so long a context; None if none does."""
        rows, context = _first(self.rows, num_rows), _first(self.contexts, longest)
        return DecodeSize(rows, context) if rows and context else None

    def graph_bytes(self, num_layers: int) -> int:
        """What the driver keeps of the graphs. Their scratch is that of a step, in one pool."""
        nodes = num_layers * NODES_PER_LAYER + NODES_BESIDE
        return len(self.rows) * len(self.contexts) * nodes * NODE_BYTES


def captured_bytes(
    config: ModelConfig, settings: EngineSettings, device_kind: str, max_model_len: int
) -> int:
    """Return what the graphs of a start take beside weights, caches and steps: nothing where none
    is captured, for the reasons that are known before anything runs."""
    if device_kind != "cuda" or settings.enforce_eager:
        return 0
    if config.pooling:
        return 0
    sizes = DecodeSizes.of(settings.max_num_seqs, max_model_len)
    # A layer that attends to an encoder's output as well has half as much again, two at most.
    return sizes.graph_bytes(len(config.spec.layers) * (2 if config.encoder else 1))


def _row_counts(most: int) -> tuple[int, ...]:
    counts, count = [1, 2, 4], 4
    while count < most:
        step = next(step for end, step in ROW_STEPS if count < end and step)
        count = count // step * step + step
        counts.append(count)
    return (*(count for count in counts if count < most), most)


def _contexts(longest: int) -> tuple[int, ...]:
    bounds, bound = [], FIRST_CONTEXT
    while bound < longest:
        bounds.append(bound)
        bound *= CONTEXT_FACTOR
    return (*bounds, longest)


def _first(sizes: Sequence[int], least: int) -> int:
    return next((size for size in sizes if size >= least), 0)
