"""What the engine needs of a model."""

from typing import Protocol

from torch import Tensor

from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache


class Model(Protocol):
    """One rank's part of a model, loaded."""

    weight_bytes: int
    replicated_bytes: int

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        """Run a step's tokens; return [N + P, hidden], the states of batch.output_tokens."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, hidden] -> [N, this rank's tokens], float32."""
        ...

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of `logits`, [N], NaN if there is one, and its place."""
        ...
