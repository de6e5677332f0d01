"""Groups of layers, and what sequences take of a pool that they share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.config.cache_groups import (
    FULL_GROUPS,
    CacheGroup,
    block_size_of,
    blocks_of_sequence,
    cache_groups,
    capacity_tokens,
    longest_sequence,
    lost_share,
)


def every(number: int, num_layers: int, window: int) -> list[int]:
    """A full layer after number - 1 with windows."""
    return [0 if layer % number == number - 1 else window for layer in range(num_layers)]


@pytest.mark.parametrize(
    ("windows", "max_len", "num_groups", "places", "unused"),
    [
        pytest.param([0] * 32, 8192, 1, 32, 0.0, id="Llama"),
        pytest.param([4096] * 32, 32768, 1, 32, 0.0, id="Mistral 7B 0.1"),
        pytest.param(every(2, 26, 4096), 8192, 2, 13, 0.0, id="Gemma 2 2B"),
        pytest.param(every(6, 18, 512), 32768, 6, 3, 0.0, id="Gemma 3 270M"),
        pytest.param(every(6, 26, 512), 32768, 7, 4, 0.0071, id="Gemma 3 1B"),
        pytest.param(every(6, 62, 1024), 131072, 7, 10, 0.006, id="Gemma 3 27B"),
        pytest.param(every(2, 24, 128), 131072, 2, 12, 0.0, id="gpt-oss 20B"),
        pytest.param(every(4, 32, 4096), 65536, 4, 8, 0.0, id="Olmo 3 7B"),
    ],
)
def test_groups_of_models_lose_little_and_are_few(
    windows: list[int], max_len: int, num_groups: int, places: int, unused: float
) -> None:
    groups = cache_groups(windows, max_len)
    alike = [1] * len(windows)
    assert (len(groups), block_size_of(groups, alike)) == (num_groups, places)
    assert lost_share(groups, alike, max_len) == pytest.approx(unused, abs=5e-4)


GEMMA4 = {
    # layers that keep keys, every how many-th sees all, window, sizes of windowed and full layers
    "E2B": (15, 5, 512, 1, 2),
    "E4B": (24, 6, 512, 1, 2),
    "26B-A4B": (30, 6, 1024, 2, 1),
    "31B": (60, 6, 1024, 2, 1),
}


@pytest.mark.parametrize(
    ("name", "num_groups", "block_size", "lost"),
    [("E2B", 3, 6, 0.0), ("E4B", 4, 8, 0.007), ("26B-A4B", 14, 5, 0.067), ("31B", 11, 10, 0.0)],
)
def test_layers_of_several_sizes_share_a_pool(
    name: str, num_groups: int, block_size: int, lost: float
) -> None:
    num_layers, number, window, small, large = GEMMA4[name]
    windows = every(number, num_layers, window)
    sizes = [small if window else large for window in windows]
    groups = cache_groups(windows, 32768, sizes)
    assert (len(groups), block_size_of(groups, sizes)) == (num_groups, block_size)
    assert lost_share(groups, sizes, 32768) == pytest.approx(lost, abs=5e-4)


def test_window_that_is_never_filled_is_none() -> None:
    assert cache_groups([4096, 0, 4096], 4096) == (CacheGroup((0, 1, 2)),)


def test_layers_share_a_group_that_keeps_little_more() -> None:
    """Two tables would cost more than keeping 4,150 tokens for layers that see 4,096."""
    assert cache_groups(every(2, 26, 4096), 4150) == (CacheGroup(tuple(range(26))),)


def test_model_without_a_cache_has_no_groups() -> None:
    assert cache_groups([], 512) == ()
    assert longest_sequence((), 0, 16, 64, 512) == 512
    assert capacity_tokens((), 0, 16, 64, 512) == 512


@given(
    layers=st.lists(
        st.tuples(st.sampled_from([0, 16, 100, 2000, None]), st.sampled_from([1, 2, 3])),
        max_size=40,
    ),
    max_len=st.sampled_from([64, 1000, 10_000]),
)
def test_each_layer_has_one_place_and_keeps_what_it_sees(
    layers: list[tuple[int | None, int]], max_len: int
) -> None:
    windows, sizes = [window for window, _ in layers], [size for _, size in layers]
    groups = cache_groups(windows, max_len, sizes)
    keep = [layer for layer, window in enumerate(windows) if window is not None]
    assert sorted(layer for group in groups for layer in group.layers) == keep
    if groups:
        assert 0 <= lost_share(groups, sizes, max_len) < 1
    for group in groups:
        for layer in group.layers:
            sees, keeps = windows[layer] or max_len, group.window or max_len
            assert min(sees, max_len) <= min(keeps, max_len)


@given(
    window=st.integers(1, 40),
    block_size=st.integers(1, 9),
    chunks=st.lists(st.integers(1, 12), min_size=1, max_size=20),
)
def test_sequence_never_has_more_blocks_than_was_said(
    window: int, block_size: int, chunks: list[int]
) -> None:
    """Run in any chunks: what a step sees or writes, by hand, is within the bound."""
    group, computed, most = CacheGroup((0,), window), 0, 0
    for chunk in chunks:
        seen = range(max(0, computed - window + 1), computed + chunk)
        assert group.first_block(computed, block_size) == seen[0] // block_size
        most = max(most, len({position // block_size for position in seen}))
        computed += chunk
    assert most <= group.max_blocks(computed, block_size, max(chunks))


def test_bound_on_blocks_is_reached() -> None:
    group = CacheGroup((0,), 8)
    # Positions 3 .. 18 lie in blocks 0 .. 4 of four.
    assert group.max_blocks(100, 4, 9) == 5
    assert group.first_block(10, 4) == 0 and (10 + 9 - 1) // 4 == 4


@given(
    windows=st.lists(st.sampled_from([0, 3, 10, 30]), min_size=1, max_size=4),
    num_blocks=st.integers(0, 60),
    block_size=st.integers(1, 8),
)
def test_longest_sequence_fits_and_a_longer_one_does_not(
    windows: list[int], num_blocks: int, block_size: int
) -> None:
    groups = [CacheGroup((layer,), window) for layer, window in enumerate(windows)]
    longest = longest_sequence(groups, num_blocks, block_size, 7, 200)
    assert blocks_of_sequence(groups, longest, block_size, 7) <= num_blocks
    if longest < 200:
        assert blocks_of_sequence(groups, longest + 1, block_size, 7) > num_blocks


def test_capacity_without_windows_is_all_places() -> None:
    assert longest_sequence(FULL_GROUPS, 10, 16, 64, 1000) == 160
    assert longest_sequence(FULL_GROUPS, 10, 16, 64, 100) == 100
    assert capacity_tokens(FULL_GROUPS, 10, 16, 64, 100) == 160


def test_windows_take_what_they_see_of_a_long_context() -> None:
    """Gemma 3 270M with 8,192 tokens in blocks of 32, prompts in chunks of 512.

    Fifteen layers that see 512 tokens and three that see all: 421 blocks of three layers, where
    keeping all would take 1,536. While it decodes it has 341: 256 for the three layers, 17 for each
    three of the others.
    """
    groups = cache_groups(every(6, 18, 512), 8192)
    assert blocks_of_sequence(groups, 8192, 32, 512) == 256 + 5 * 33 == 421
    assert blocks_of_sequence(groups, 8192, 32, 1) == 256 + 5 * 17 == 341
    everything = [CacheGroup(group.layers) for group in groups]
    assert blocks_of_sequence(everything, 8192, 32, 512) == 6 * 256 == 1536
    assert capacity_tokens(groups, 10_000, 32, 512, 8192) == 10_000 * 8192 // 421
    assert capacity_tokens(everything, 10_000, 32, 512, 8192) == 10_000 * 8192 // 1536
