"""What the start says a rank will take of weights, against what it came to hold."""

from pathlib import Path

import pytest

from backend.engine.engine import build_engine
from backend.linear.torch_weight_only import weight_only_kernels_work
from backend.parallel import TensorParallel
from backend.placement.memory import DTYPE_BYTES
from backend.settings import EngineSettings
from backend.wire.control import Budget
from gateway.default_model import default_model
from tests.backend.factories import write_tiny_llama


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("quantization", ["auto", "int4", "int8", "none"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("tie", [True, False])
def test_footprint_is_what_is_held(
    tmp_path: Path, kernels: str, quantization: str, dtype: str, tie: bool
) -> None:
    if quantization.startswith("int") and (dtype != "bfloat16" or not weight_only_kernels_work()):
        pytest.skip("few bits need bfloat16 and torch's ops or ours")
    model = write_tiny_llama(tmp_path / "model", tie=tie)
    _check(model, kernels=kernels, quantization=quantization, dtype=dtype)


@pytest.mark.parametrize("quantization", ["auto", "int4", "int8", "none"])
@pytest.mark.parametrize("tie", [True, False])
def test_table_of_a_width_that_no_kernel_takes_is_counted(
    tmp_path: Path, quantization: str, tie: bool
) -> None:
    if quantization.startswith("int") and not weight_only_kernels_work():
        pytest.skip("few bits need torch's ops or ours")
    model = write_tiny_llama(tmp_path / "model", tie=tie, hidden_size=80)
    _check(model, dtype="bfloat16", quantization=quantization)


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_footprint_of_a_file_in_groups_is_what_is_held(kernels: str) -> None:
    _check(default_model(), kernels=kernels)


def _check(model: Path, **settings: str) -> None:
    told: list[Budget] = []
    engine = build_engine(
        EngineSettings(model=str(model), device="cpu", kv_cache_bytes=1 << 21, **settings),  # type: ignore[arg-type]
        TensorParallel(),
        lambda phase, fraction: None,
        told.append,
    )
    [budget] = told
    config = engine.config
    norms = (2 * config.num_layers + 1) * config.hidden_size
    estimate = budget.weight_bytes + budget.packed_bytes
    estimate += norms * DTYPE_BYTES[engine.dtype]
    # Scales of torch's int8, one a row, are not counted.
    assert engine.model.weight_bytes == pytest.approx(estimate, rel=0.01)
