"""What attention modules of transformers may ask of a paged cache, and what not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backend.config.errors import ModelError
from backend.models.foreign_attention import ATTRIBUTE, ForeignAttention, ForeignStep, attend
from backend.ops.cpu import CpuOps
from backend.placement.sharding import split_model
from tests.backend.factories import tiny_config


def ask(heads: tuple[int, int] = (8, 4), window: int | None = None, **asked: Any) -> None:
    config = tiny_config()
    [shard] = split_model(config, 1)
    module = nn.Module()
    step = ForeignStep(CpuOps(), 8, 2, torch.float32, "Some code")
    setattr(module, ATTRIBUTE, ForeignAttention(step, 0, 0, shard, 8, 4, 8))
    query, key = (torch.zeros(1, count, 3, 8) for count in heads)
    mask: Tensor | None = asked.pop("mask", None)
    attend(module, query, key, key, mask, sliding_window=window, **asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"mask": torch.zeros(1, 1, 3, 3)}, "an attention mask of its own"),
        ({"is_causal": False}, "see those after them"),
        ({"position_bias": torch.zeros(3)}, "attends with position_bias"),
        ({"window": 5}, "sees a window of 5 tokens, its configuration says all"),
        ({"heads": (8, 2)}, "8 query and 2 KV heads of 8, expected were 8 and 4"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        ask(**asked)


def test_layers_attend_once_each() -> None:
    step = ForeignStep(CpuOps(), 8, num_layers=2, dtype=torch.float32, who="Some code")
    step.num_attended = 4
    with pytest.raises(ModelError, match="Some code attends 4 times in 2 layers"):
        step.end()
