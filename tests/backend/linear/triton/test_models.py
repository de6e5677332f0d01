"""Whole models with a GPU's ops and linears, in Triton's interpreter, near their float32 twins."""

from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.runtime.interpreter import GridExecutor

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine import platform
from backend.engine.engine import Engine, build_engine
from backend.linear import registry
from backend.ops.triton.triton_ops import TritonOps
from backend.quant.planes import PLANES
from backend.quant.weight_format import WeightFormat
from backend.settings import EngineSettings
from backend.wire.control import Budget
from tests.backend.models.gpt_oss_cases import GPT_OSS
from tests.backend.models.mxfp4_model import Mxfp4Model
from tests.backend.models.tiny_engine import engine_of, logits_of
from tests.backend.quantized_layouts import LAYOUTS, write_quantized_llama
from tests.backend.tp_ranks import run_ranks

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

PROMPT = [5, 99, 42, 7, 250]


@pytest.fixture(autouse=True)
def gpu_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU computes with what a GPU would have, unless there is one."""
    if torch.cuda.is_available():
        return
    monkeypatch.setattr(platform, "_select_ops", lambda *_: TritonOps())
    monkeypatch.setattr(platform, "select_level", lambda *_: "triton")
    for weight_format in (WeightFormat.DENSE, *PLANES):
        name = registry.KERNELS[weight_format, "cuda", "triton"]
        monkeypatch.setitem(registry.KERNELS, (weight_format, "cpu", "triton"), name)


@pytest.fixture
def one_launch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter has one grid for all threads, of which ranks are some here."""
    lock, launch = Lock(), GridExecutor.__call__

    def alone(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return launch(*args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", alone)


def on_gpu(path: Path, tp: TensorParallel | None = None, **settings: Any) -> Engine:
    group = tp or TensorParallel()
    told = {"device": "auto", "dtype": "float32", "block_size": 4, "kv_cache_bytes": 1 << 21}
    told |= {"max_model_len": 128, "max_num_batched_tokens": 16, "max_num_seqs": 2}
    budgets: list[Budget] = []
    engine = build_engine(
        EngineSettings(model=str(path), tp=group.size, **{**told, **settings}),
        group,
        lambda phase, fraction: None,
        on_budget=budgets.append,
    )
    assert budgets[0].packed_bytes > 0
    return engine


def check_near(got: Tensor, expected: Tensor) -> None:
    """Scales and minimums are those of the file or off by 2^-11 of them; sums are float32's."""
    assert float((got.cpu() - expected).norm() / expected.norm()) < 2e-3


@pytest.mark.parametrize(
    "layout",
    [
        "gptq, columns in any order",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("awq", "gptq", "int-quantized", "fp8")),
    ],
)
def test_quantised_directory_is_multiplied_in_its_bits(tmp_path: Path, layout: str) -> None:
    llama = write_quantized_llama(tmp_path, LAYOUTS[layout], num_layers=1)
    engine = on_gpu(llama.directory)
    got = logits_of(engine, PROMPT, chunks=[4, 1])
    check_near(got, logits_of(engine_of(llama.dense), PROMPT))


@pytest.mark.slow
@pytest.mark.usefixtures("one_launch_at_a_time")
@pytest.mark.parametrize("layout", ["gptq", "gptq, columns in any order"])
def test_ranks_together_give_the_logits_of_one(tmp_path: Path, layout: str) -> None:
    llama = write_quantized_llama(tmp_path, LAYOUTS[layout], num_layers=1)
    parts = run_ranks(2, lambda tp: logits_of(on_gpu(llama.directory, tp), PROMPT))
    check_near(torch.cat(parts, dim=-1), logits_of(on_gpu(llama.directory), PROMPT).cpu())


@pytest.mark.slow
@pytest.mark.parametrize("is_twin", [False, True])
def test_experts_in_mxfp4_are_multiplied_in_their_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_twin: bool
) -> None:
    tiny = Mxfp4Model(GPT_OSS["gpt_oss"], tmp_path, monkeypatch)
    engine = on_gpu(tiny.twin if is_twin else tiny.path)
    got = logits_of(engine, tiny.prompt, chunks=[13, 1])
    torch.testing.assert_close(got.cpu(), tiny.logits, rtol=1e-4, atol=1e-4)
