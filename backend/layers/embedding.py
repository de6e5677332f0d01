"""The two ends of the vocabulary: token to vector, vector to logits."""

from torch import Tensor

from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.linear.kernel import Embed
from backend.placement.sharding import Shard


class VocabParallelHead:
    """Each rank has the logits of its part of the vocabulary; the sampler gathers what it needs."""

    def __init__(self, loader: WeightLoader, name: str) -> None:
        self._weight = loader.pack_head(name)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width] -> logits [N, this rank's tokens], float32."""
        return self._weight.logits(x)

    def argmax(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, width] -> the largest logit of this rank's tokens, [N], and its place, [N]."""
        return self._weight.argmax(x)

    @property
    def embed(self) -> Embed | None:
        """What looks up this rank's tokens, if the weight is kept so that one can."""
        return self._weight.embed if self._weight.embeds else None


class VocabParallelEmbedding:
    """Each rank has the rows of its part of the vocabulary; a look-up is summed over the ranks."""

    def __init__(
        self, loader: WeightLoader, name: str, shard: Shard, context: ComputeContext
    ) -> None:
        self._embed = loader.embedding(name)
        self._own = shard.vocab
        self._tp = context.tp

    def forward(self, input_ids: Tensor) -> Tensor:
        """[T] -> [T, width]."""
        if self._tp.size == 1:
            return self._embed(input_ids)
        start, stop = self._own.start, self._own.stop
        is_own = (input_ids >= start) & (input_ids < stop)
        rows = self._embed((input_ids - start).clamp(0, stop - start - 1))
        return self._tp.all_reduce(rows * is_own[:, None])


class Embedding:
    """The whole table on every rank: a look-up needs no sum over the ranks.

    tied: a head that holds the same table whole. Where tokens can be looked up in it, no second
    copy is kept.
    """

    def __init__(
        self, loader: WeightLoader, name: str, tied: VocabParallelHead | None = None
    ) -> None:
        self._embed = (tied and tied.embed) or loader.embedding(name)

    def forward(self, input_ids: Tensor) -> Tensor:
        """[T] -> [T, width]."""
        return self._embed(input_ids)
