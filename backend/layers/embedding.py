"""The two ends of the vocabulary: token to vector, vector to logits."""

import torch.nn.functional as F
from torch import Tensor

from backend.layers.source import WeightSource
from backend.quant import LinearMethod


class Embedding:
    """The whole table on every rank: a look-up needs no sum over the ranks."""

    def __init__(self, source: WeightSource, name: str, shape: tuple[int, int]) -> None:
        self._table = source.take(name, shape, replicated=True)

    def forward(self, input_ids: Tensor) -> Tensor:
        """[T] -> [T, hidden]."""
        return F.embedding(input_ids, self._table)


class VocabParallelHead:
    """Each rank scores its part of the vocabulary; the sampler gathers what it needs."""

    def __init__(
        self,
        source: WeightSource,
        name: str,
        shape: tuple[int, int],
        part: slice,
        method: LinearMethod,
    ) -> None:
        self._method = method
        self._weight = method.pack(
            source.take(name, shape, rows=part), lambda: source.groups(name, rows=part)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, hidden] -> logits [N, this rank's words], float32."""
        return self._method.score(x, self._weight)
