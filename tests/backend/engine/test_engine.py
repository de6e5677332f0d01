"""How a rank is put together: in which order, and what it tells of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from backend.config.cache_groups import CacheGroup
from backend.config.errors import ModelError
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.settings import EngineSettings
from backend.wire.control import Budget
from backend.wire.local.heartbeat import Phase
from tests.backend.factories import write_tiny_llama
from tests.backend.tp_ranks import run_ranks

BLOCK_BYTES = 4 * 2 * 2 * 4 * 8 * 4  # tokens, layers, keys and values, heads, head_dim, float32


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "model")


def build(model: Path, told: list[object], tp: TensorParallel, **settings: Any) -> Engine:
    defaults = {"device": "cpu", "dtype": "float32", "block_size": 4, "max_num_seqs": 8}
    return build_engine(
        EngineSettings(model=str(model), tp=tp.size, **{**defaults, **settings}),
        tp,
        lambda phase, fraction: told.append((phase, fraction)),
        told.append,
    )


def test_engine_tells_its_budget_then_how_it_loads_and_warms_up(model: Path) -> None:
    told: list[Any] = []
    engine = build(model, told, TensorParallel(), kv_cache_bytes=100 * BLOCK_BYTES)
    budget, *progress = told
    assert isinstance(budget, Budget)
    assert (budget.rank, budget.kv_bytes) == (0, engine.num_blocks * BLOCK_BYTES)
    phases = [phase for phase, _ in progress]
    assert phases == sorted(phases) and set(phases) == {Phase.LOAD, Phase.WARM_UP}
    loaded = [fraction for phase, fraction in progress if phase is Phase.LOAD]
    assert loaded == sorted(loaded) and loaded[-1] == 1.0
    assert progress[-2:] == [(Phase.WARM_UP, 0.0), (Phase.WARM_UP, 1.0)]


def test_engine_is_what_settings_and_model_say(model: Path) -> None:
    engine = build(
        model, [], TensorParallel(), kv_cache_bytes=100 * BLOCK_BYTES, max_model_len=64,
        max_num_batched_tokens=40,
    )  # fmt: skip
    assert (engine.num_blocks, engine.max_model_len, engine.token_budget) == (100, 64, 40)
    assert engine.kv_bytes == 100 * BLOCK_BYTES
    assert engine.groups == (CacheGroup((0, 1)),)
    assert (engine.device, engine.dtype) == (torch.device("cpu"), "float32")
    assert engine.runner.num_forward_calls == 0, "the warm-up does not count"


def test_engine_refuses_a_kv_cache_too_large_before_it_loads(model: Path) -> None:
    told: list[object] = []
    with pytest.raises(ModelError, match=r"--kv-cache-bytes .* is too much"):
        build(model, told, TensorParallel(), kv_cache_bytes=1 << 50)
    [budget] = told
    assert isinstance(budget, Budget), "the operator sees what was too much"


def test_engine_ranks_agree_on_the_fewest_blocks(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1 << 30, 1 << 26]

    def build_rank(tp: TensorParallel) -> Engine:
        return build(model, [], tp)

    def free_bytes(device: torch.device, tp: TensorParallel, settings: EngineSettings) -> int:
        return free.pop()

    monkeypatch.setattr("backend.engine.rank_memory.free_bytes_of", free_bytes)
    one, two = run_ranks(2, build_rank)
    assert one.num_blocks == two.num_blocks < (1 << 26) // BLOCK_BYTES
