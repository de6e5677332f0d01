"""Models whose layers keep states: any lengths, any chunks, prefix hits and preemption.

Tolerance against transformers: as test_families.py. Against our own runs: the same bits, since a
token's arithmetic with our kernels depends on its own sequence alone. What delta nets have beside
transformers is test_delta_nets.py's.
"""

from dataclasses import replace

import pytest
import torch

from backend.engine.engine import Engine
from backend.native import absence, kernels
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from tests.backend.models.delta_cases import DELTA_NETS
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.mamba_cases import LONG_MAMBAS
from tests.backend.models.state_cases import LONG
from tests.backend.models.state_runs import (
    BLOCK_SIZE,
    BUDGET,
    Preemption,
    run_scored,
    scored,
)
from tests.backend.models.tiny_engine import engine_of, logits_of, scheduler_of

# 20 to 60 blocks of 16 tokens; of families with larger states as many snapshots.
CACHE_BYTES = 1 << 19
MAMBA_CACHE_BYTES = 1 << 23
DELTA = {"qwen3_5": replace(DELTA_NETS["qwen3_5"], num_tokens=700, twin=None)}
COMPARED = LONG | LONG_MAMBAS
CASES = COMPARED | DELTA
compared = pytest.mark.parametrize("tiny", sorted(COMPARED), indirect=True)
needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)


@pytest.fixture(scope="module", params=sorted(CASES))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return TinyModel(CASES[request.param], tmp_path_factory.mktemp("states"))


@pytest.fixture(scope="module")
def native(tiny: TinyModel) -> Engine:
    return engine_of(
        tiny.path,
        dtype="bfloat16",
        kernels="auto",
        block_size=BLOCK_SIZE,
        kv_cache_bytes=cache_bytes(tiny),
        max_num_seqs=8,
    )


@compared
@pytest.mark.parametrize("num_tokens", [1, 63, 64, 65, 700])
def test_logits_of_any_length_are_those_of_transformers(tiny: TinyModel, num_tokens: int) -> None:
    engine = engine_of(tiny.path, block_size=BLOCK_SIZE, max_num_seqs=8)
    prompt, expected = tiny.prompt[:num_tokens], tiny.logits[:num_tokens]
    for chunks in ([], [1] * (num_tokens % 7), [num_tokens // 2], [num_tokens - 1]):
        found = logits_of(engine, prompt, BLOCK_SIZE, chunks)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)


@compared
@pytest.mark.slow
def test_long_decode_is_that_of_transformers(tiny: TinyModel) -> None:
    engine = engine_of(
        tiny.path, block_size=BLOCK_SIZE, kv_cache_bytes=cache_bytes(tiny), max_num_seqs=8
    )
    prompt = tiny.prompt[:70]
    answer = run_scored(engine, scheduler(engine), [scored(0, prompt, 200)])[0]
    whole = prompt + [token for token, _ in answer]
    logprobs = tiny.logits_of(whole).log_softmax(-1)[len(prompt) - 1 : -1]
    expected = logprobs.gather(1, torch.tensor(whole[len(prompt) :])[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor([p for _, p in answer]), expected, rtol=0, atol=5e-4)
    assert torch.equal(logprobs.argmax(1), torch.tensor(whole[len(prompt) :]))


@needs_kernels
def test_any_chunking_gives_the_bits_of_one_chunk(tiny: TinyModel, native: Engine) -> None:
    prompt = tiny.prompt[:150]
    whole = logits_of(native, prompt, BLOCK_SIZE)
    for chunks in ([1] * 20, [63, 1, 64], [149], [2, 80, 5]):
        assert torch.equal(logits_of(native, prompt, BLOCK_SIZE, chunks), whole)


@needs_kernels
def test_prefix_hits_at_every_cut_change_no_bit(tiny: TinyModel, native: Engine) -> None:
    """A prompt of 100 tokens, and others that part from it at every third place: in each block at
    several, and at each of its ends."""
    prompt = tiny.prompt[:100]
    others = [prompt[:cut] + [token % 90 + 4 for token in prompt[cut:]] for cut in range(1, 100, 3)]
    # First: two schedulers of one engine would overwrite each other's blocks and slots.
    expected = [
        run_scored(native, scheduler(native, caches=False), [scored(1, other, 2)])
        for other in others
    ]
    hits = scheduler(native)
    run_scored(native, hits, [scored(0, prompt, 2)])
    num_cached = []
    for other, answer in zip(others, expected, strict=True):
        asked = scored(1, other, 2)
        assert run_scored(native, hits, [asked]) == answer
        num_cached.append(asked.num_cached_tokens)
    # Snapshots stand at intervals of 32 tokens, where the prompt's last block is, and, of blocks
    # that were found before, where they ended.
    assert num_cached[:5] == [0] * 5 and 32 <= num_cached[15] < 64 and num_cached[-1] == 96


@needs_kernels
def test_place_where_prompts_part_is_kept_for_the_third(tiny: TinyModel, native: Engine) -> None:
    system = tiny.prompt[:53]
    served = scheduler(native, interval=1 << 10)
    cached = []
    for number in range(3):
        asked = scored(number, system + tiny.prompt[100 + 50 * number :][:40], 2)
        run_scored(native, served, [asked])
        cached.append(asked.num_cached_tokens)
    # Without blocks nothing tells where prompts part.
    assert cached == [0, 0, 48 if native.groups else 0]


@needs_kernels
def test_next_turn_goes_on_from_the_last_answer(tiny: TinyModel, native: Engine) -> None:
    served = scheduler(native, interval=1 << 10)
    first = scored(0, tiny.prompt[:20], 60)
    run_scored(native, served, [first])
    turn = first.token_ids + tiny.prompt[200:230]
    asked = scored(1, turn, 5)
    found = run_scored(native, served, [asked])
    assert asked.num_cached_tokens == 64
    assert found == run_scored(native, scheduler(native, caches=False), [scored(1, turn, 5)])


@needs_kernels
def test_preemption_at_every_step_changes_no_bit(tiny: TinyModel, native: Engine) -> None:
    """Each of several sequences is thrown out again and again, with and without snapshots."""
    sizes = [(5, 20), (40, 10), (90, 6), (17, 12)]

    def asked() -> list[Sequence]:
        return [scored(n, tiny.prompt[7 * n :][:s], count) for n, (s, count) in enumerate(sizes)]

    expected = run_scored(native, scheduler(native, caches=False), asked())
    for caches in (True, False):
        disturbed = scheduler(native, caches=caches)
        found = run_scored(native, disturbed, asked(), Preemption())
        assert disturbed.num_preemptions > 20
        assert found == expected


@needs_kernels
def test_crowd_gives_the_bits_of_each_alone(tiny: TinyModel, native: Engine) -> None:
    prompts = [tiny.prompt[n : n + 3 + 13 * n] for n in range(8)]
    together = [scored(n, prompt, 12) for n, prompt in enumerate(prompts)]
    crowd = run_scored(native, scheduler(native), together)
    for n, prompt in enumerate(prompts):
        assert crowd[n] == run_scored(native, scheduler(native), [scored(n, prompt, 12)])[n]


def scheduler(engine: Engine, *, caches: bool = True, interval: int = 32) -> Scheduler:
    return scheduler_of(
        engine, BLOCK_SIZE, BUDGET, snapshot_interval=interval, prefix_caching=caches
    )


def cache_bytes(tiny: TinyModel) -> int:
    return CACHE_BYTES if tiny.case in LONG.values() else MAMBA_CACHE_BYTES
