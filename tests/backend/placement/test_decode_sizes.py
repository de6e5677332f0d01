"""For which sizes steps of decodes are captured."""

import itertools
from typing import Any

import pytest

from backend.placement.decode_sizes import (
    NODE_BYTES,
    NODES_PER_LAYER,
    DecodeSize,
    DecodeSizes,
    captured_bytes,
)
from backend.settings import EngineSettings
from tests.backend.factories import tiny_config


def test_rows_are_close_where_they_are_few() -> None:
    assert DecodeSizes.of(3, 100).rows == (1, 2, 3)
    rows = DecodeSizes.of(256, 100).rows
    assert rows[:6] == (1, 2, 4, 8, 16, 24) and rows[-1] == 256
    assert all(b - a <= max(8, a // 4) for a, b in itertools.pairwise(rows))


def test_contexts_grow_fourfold_up_to_the_longest() -> None:
    assert DecodeSizes.of(1, 512).contexts == (512,)
    assert DecodeSizes.of(1, 5000).contexts == (1024, 4096, 5000)


def test_step_takes_the_smallest_size_that_it_fits() -> None:
    sizes = DecodeSizes.of(20, 5000)
    assert sizes.fit(5, 1024) == DecodeSize(8, 1024)
    assert sizes.fit(17, 1025) == DecodeSize(20, 4096)
    assert sizes.fit(21, 1) is None and sizes.fit(1, 5001) is None


def test_largest_comes_first() -> None:
    sizes = DecodeSizes.of(2, 2000)
    assert sizes.all[0] == DecodeSize(2, 2000) and sizes.all[-1] == DecodeSize(1, 1024)


def test_graphs_take_by_layer_and_size() -> None:
    sizes = DecodeSizes.of(4, 5000)
    assert len(sizes.all) == 9
    assert sizes.graph_bytes(32) - sizes.graph_bytes(16) == 9 * 16 * NODES_PER_LAYER * NODE_BYTES
    assert 4 << 20 < DecodeSizes.of(1, 100).graph_bytes(32) < 16 << 20


@pytest.mark.parametrize(
    ("device", "changes"),
    [("cpu", {}), ("cuda", {"enforce_eager": True})],
)
def test_graphs_that_are_not_captured_take_nothing(device: str, changes: dict[str, Any]) -> None:
    settings = EngineSettings(max_num_seqs=4, **changes)
    assert captured_bytes(tiny_config(), settings, device, 300) == 0
    assert captured_bytes(tiny_config(), EngineSettings(max_num_seqs=4), "cuda", 300) > 0
