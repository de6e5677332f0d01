"""The score of a decoder that reranks: the logit of one answer less that of the other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.models.model import Model
from backend.placement.sharding import Shard


class AnswerScore:
    """Ranks hold a part of the vocabulary each: the answers' logits are summed over them."""

    def __init__(
        self, model: Model, answer_ids: Sequence[int], shard: Shard, tp: TensorParallel
    ) -> None:
        """answer_ids: the token that says yes, then, if there is one, the token that says no."""
        self._model = model
        self._tp = tp
        signs = zip(answer_ids, (1.0, -1.0), strict=False)
        vocab = shard.vocab
        self._terms = [
            (answer - vocab.start, sign)
            for answer, sign in signs
            if vocab.start <= answer < vocab.stop
        ]

    def score(self, hidden: Tensor) -> Tensor:
        """[N, hidden] of last tokens -> [N], float32, the same on every rank."""
        logits = self._model.logits(hidden)
        own = torch.zeros(len(hidden), device=hidden.device)
        for place, sign in self._terms:
            own += sign * logits[:, place]
        return own if self._tp.size == 1 else self._tp.all_reduce(own)
