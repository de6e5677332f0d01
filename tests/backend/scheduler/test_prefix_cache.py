"""Which beginnings of prompts are found, where some layers see a window of keys only."""

from hypothesis import given
from hypothesis import strategies as st

from backend.config.cache_groups import CacheGroup
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import Sequence
from backend.step import FAULTY
from backend.wire.sampling import SamplingParams
from tests.backend.scheduler.test_scheduler import make_scheduler, make_sequence, run, step

SIZE = 4
MIXED = (CacheGroup((0,)), CacheGroup((1,), 8))


def sequence_of(num_blocks: int) -> Sequence:
    """A prompt of so many full blocks and a token more."""
    num_tokens = num_blocks * SIZE + 1
    return Sequence((0, 1), list(range(num_tokens)), num_tokens, SamplingParams())


def longest_by_hand(groups: list[CacheGroup], cached: list[set[int]], num_blocks: int) -> int:
    """Try every length."""
    return max(
        n
        for n in range(num_blocks + 1)
        if all(
            index in have
            for group, have in zip(groups, cached, strict=True)
            for index in range(n)
            if not group.window or (index + 1) * SIZE > n * SIZE - group.window + 1
        )
    )


@given(
    data=st.data(), windows=st.lists(st.sampled_from([0, 1, 2, 5, 6, 13]), min_size=1, max_size=3)
)
def test_longest_prefix_that_all_groups_have_is_found(
    data: st.DataObject, windows: list[int]
) -> None:
    groups = [CacheGroup((layer,), window) for layer, window in enumerate(windows)]
    seq, indices = sequence_of(12), st.sets(st.integers(0, 11))
    missing = [data.draw(indices) for _ in groups]
    cached = [set(range(12)) - each for each in missing]
    pool = BlockPool(12 * len(groups), SIZE)
    prefixes = PrefixCache(pool, enabled=True, groups=groups)
    seq.num_computed_tokens, seq.num_blocks = 12 * SIZE, 12
    seq.block_tables = [pool.allocate(12) or [] for _ in groups]
    prefixes.remember(seq, 0)
    for g, each in enumerate(missing):
        for index in each:
            pool.forget((g, seq.block_hashes[index]))
    num_blocks, tables = prefixes.match(sequence_of(12))
    assert num_blocks == longest_by_hand(groups, cached, 12)
    for table, held, group in zip(tables, seq.block_tables, groups, strict=True):
        first = group.first_block(num_blocks * SIZE, SIZE)
        assert table == held[first:num_blocks]


def test_prefix_is_found_without_blocks_behind_a_window() -> None:
    """Those are the first to be used again, since they were the first to come back."""
    scheduler = make_scheduler(num_blocks=64, groups=MIXED)
    prompt = list(range(1, 34))
    first = make_sequence(1, prompt, max_tokens=1)
    scheduler.add(first)
    run(scheduler)
    pool, taken = scheduler.pool, list[int]()
    while any(pool.holds((1, prefix)) for prefix in first.block_hashes[:6]):
        taken += pool.allocate(1) or []
    pool.free(taken)
    scheduler.add(make_sequence(2, prompt, max_tokens=1))
    plan, [output] = step(scheduler)
    assert output.num_cached_tokens == 32 and plan is not None and plan.num_tokens == 1
    run(scheduler)
    assert pool.num_free == 64


def test_long_answer_takes_no_more_of_the_cache_than_it_keeps() -> None:
    """Each block that left its window was cached as the newest, in place of others' prompts."""
    scheduler = make_scheduler(num_blocks=40, groups=[CacheGroup((0,), 8)])
    prompts = [[number] * 17 for number in range(1, 5)]
    for number, prompt in enumerate(prompts):
        scheduler.add(make_sequence(number, prompt, max_tokens=1))
    run(scheduler)
    scheduler.add(make_sequence(10, [9] * 17, max_tokens=400))
    run(scheduler)
    for number, prompt in enumerate(prompts, 20):
        scheduler.add(make_sequence(number, prompt, max_tokens=1))
    assert [output.num_cached_tokens for output in run(scheduler)] == [16] * 4


def test_what_a_faulty_sequence_gave_back_is_not_shared_either() -> None:
    """Only a window: blocks that it has left behind would serve a shorter prompt."""
    scheduler = make_scheduler(num_blocks=32, budget=8, groups=[CacheGroup((0,), 4)])
    scheduler.add(make_sequence(1, [1] * 24))
    for _ in range(3):
        step(scheduler, FAULTY)
    scheduler.add(make_sequence(2, [1] * 12))
    outputs = run(scheduler)
    assert outputs[0].num_cached_tokens == 0
