"""The two ends of the vocabulary: token to vector, vector to logits."""

import torch.nn.functional as F
from torch import Tensor

from backend.layers.loader import WeightLoader, WeightSlice
from backend.linear.method import LinearMethod, LookUp


class VocabParallelHead:
    """Each rank scores its part of the vocabulary; the sampler gathers what it needs."""

    def __init__(
        self,
        source: WeightLoader,
        name: str,
        shape: tuple[int, int],
        part: slice,
        method: LinearMethod,
    ) -> None:
        self._method = method
        self._weight = source.pack(method, [WeightSlice(name, shape, rows=part)])

    def forward(self, x: Tensor) -> Tensor:
        """[N, hidden] -> logits [N, this rank's words], float32."""
        return self._method.score(x, self._weight)

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, hidden] -> the largest logit of this rank's words, [N], and its place, [N]."""
        return self._method.best(x, self._weight)

    def look_up(self) -> LookUp | None:
        """Return what looks up this rank's words, if the weight is kept so that one can."""
        return self._method.look_up(self._weight)


class Embedding:
    """The whole table on every rank: a look-up needs no sum over the ranks.

    tied: a head that holds the same table whole. Where words can be looked up in it, no second
    copy is kept.
    """

    def __init__(
        self,
        source: WeightLoader,
        name: str,
        shape: tuple[int, int],
        tied: VocabParallelHead | None = None,
    ) -> None:
        self._look_up = tied.look_up() if tied else None
        if self._look_up is None:
            self._table = source.take(name, shape, replicated=True)

    def forward(self, input_ids: Tensor) -> Tensor:
        """[T] -> [T, hidden]."""
        if self._look_up is not None:
            return self._look_up(input_ids)
        return F.embedding(input_ids, self._table)
