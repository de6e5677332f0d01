"""Shards of a model for 2, 4 and 8 ranks, in one process: together they are the whole model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from backend.engine import platform
from tests.backend.factories import write_tiny_llama
from tests.backend.models.tiny_engine import engine_of, logits_of
from tests.backend.shard_simulator import SimulatedRank, simulate

HEADS: dict[str, Any] = {"num_heads": 16, "num_kv_heads": 8, "head_dim": 8, "num_layers": 2}
PROMPT = [3 + 7 * place % 200 for place in range(19)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"), tie=False, **HEADS)


def test_shards_together_are_the_model(model: Path) -> None:
    """Prompts in chunks, their last tokens one by one; float32 sums in another order."""
    whole = logits_of(engine_of(model), PROMPT)
    for size in (2, 4, 8):

        def work(tp: SimulatedRank) -> torch.Tensor:
            engine = engine_of(model, tp)
            before = tp.num_sums
            own = logits_of(engine, PROMPT, chunks=(5, 12, 1))
            # Four steps of two layers, each of which has two sums.
            assert tp.num_sums - before == 4 * 2 * 2
            assert own.shape[1] < whole.shape[1]
            return own

        together = torch.cat(simulate(size, work), dim=1)
        torch.testing.assert_close(together, whole, rtol=1e-4, atol=1e-5)


def test_rank_that_fails_fails_all() -> None:
    def work(tp: SimulatedRank) -> None:
        if tp.rank == 1:
            raise ValueError("not this one")
        tp.all_reduce(torch.ones(1))

    with pytest.raises((ValueError, RuntimeError)):
        simulate(2, work)


@pytest.mark.numerics
def test_shards_by_a_gpus_kernels_are_the_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton's ops in the interpreter, which runs one kernel at a time."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from backend.ops.triton.triton_ops import TritonOps

    whole = logits_of(engine_of(model), PROMPT[:3])
    monkeypatch.setattr(platform, "_select_ops", lambda *_: TritonOps())

    def work(tp: SimulatedRank) -> torch.Tensor:
        return logits_of(engine_of(model, tp), PROMPT[:3], chunks=(2,))

    together = torch.cat(simulate(2, work), dim=1)
    torch.testing.assert_close(together, whole, rtol=1e-4, atol=1e-5)
