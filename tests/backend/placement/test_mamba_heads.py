"""Heads of Mamba-2 over ranks: all of them, once, with whole groups or beside the only one."""

import msgspec
import pytest

from backend.config.errors import ModelError
from backend.config.spec import Mamba2
from backend.placement.mamba_heads import groups_of, split_mamba_heads

# Nemotron 3 Nano's, and Granite 4 H Tiny's.
NEMOTRON = Mamba2(64, 64, 8, 128, 4)
GRANITE = Mamba2(48, 64, 1, 128, 4)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5, 8])
def test_every_head_is_one_ranks_with_its_whole_group(num_ranks: int) -> None:
    parts = split_mamba_heads(NEMOTRON, num_ranks, 256)
    assert [head for part in parts for head in range(part.start, part.stop)] == [*range(64)]
    assert all(part.start % 8 == 0 for part in parts)
    groups = [groups_of(NEMOTRON, part) for part in parts]
    assert [group for part in groups for group in range(part.start, part.stop)] == [*range(8)]


def test_only_group_is_every_ranks_and_blocks_stay_whole() -> None:
    parts = split_mamba_heads(GRANITE, 5, 256)
    assert parts[0] == slice(0, 8) and parts[-1] == slice(36, 48)
    assert all(part.start % 4 == 0 for part in parts)  # 4 heads are 256 columns
    assert [groups_of(GRANITE, part) for part in parts] == [slice(0, 1)] * 5


def test_groups_that_have_a_norm_are_not_cut() -> None:
    few = msgspec.structs.replace(NEMOTRON, num_groups=2)
    with pytest.raises(ModelError, match=r"--tp 3 is more than 2 groups .*\nuse 1 to 2"):
        split_mamba_heads(few, 3, 32)
    parts = split_mamba_heads(msgspec.structs.replace(few, norm="none"), 3, 32)
    assert [groups_of(few, part) for part in parts] == [slice(0, 1), slice(0, 2), slice(1, 2)]


def test_more_ranks_than_heads_are_refused() -> None:
    with pytest.raises(ModelError, match="--tp 49 is more than 48 heads of a Mamba-2 layer"):
        split_mamba_heads(GRANITE, 49, 32)
