"""A class whose code looks at more than tokens and positions is found before it serves."""

import pytest
import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.models.foreign_trial import check_batching
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.placement.sharding import split_model
from tests.backend.factories import tiny_config


class Model:
    """States that follow from each token and `its` position."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._table = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
        self._seen = 0

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        num_tokens = len(batch.input_ids)
        places = batch.positions
        if self._kind == "counts its own positions":
            places = torch.arange(num_tokens)
        states = self._table[batch.input_ids] + self._table[places + 200]
        if self._kind == "keeps a state":
            self._seen += num_tokens
            states = states + self._table[self._seen]
        if self._kind == "looks at the whole batch":
            states = states + states.mean(0)
        return states


def check(kind: str) -> None:
    config = tiny_config()
    [shard] = split_model(config, 1)
    check_batching(Model(kind), config, shard, torch.float32, torch.device("cpu"), "X")


def test_what_depends_on_tokens_and_positions_may_serve() -> None:
    check("is what it should be")


@pytest.mark.parametrize(
    "kind", ["counts its own positions", "keeps a state", "looks at the whole batch"]
)
def test_what_depends_on_the_batch_may_not(kind: str) -> None:
    with pytest.raises(ModelError, match="other states for the same tokens in chunks"):
        check(kind)
