"""What a step does beside calls of our kernels is seen."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from backend.native import absence, kernels
from backend.ops.native import NativeOps
from backend.ops.step_recording import StepRecording

pytestmark = pytest.mark.skipif(kernels is None, reason=absence)

X = torch.ones(4, 32, dtype=torch.bfloat16)
ROWS = torch.tensor([1])


@pytest.mark.parametrize(
    ("work", "seen"),
    [
        (lambda x: x + 1, "add"),
        (lambda x: x.float(), "to"),
        (lambda x: x.T.contiguous(), "contiguous|clone"),
        (lambda x: torch.empty_like(x).copy_(x), "copy_"),
        (lambda x: x.clone().zero_(), "clone"),
        (lambda x: x.index_select(0, ROWS), "index_select"),
        (lambda x: x[0, 0].item(), "item|_local_scalar_dense"),
        (lambda x: torch.zeros(3), "zeros"),
        (lambda x: torch.cat((x, x)), "cat"),
        (lambda x: x.view(8, 16)[:, :4].reshape(-1), "reshape|clone"),
    ],
)
def test_what_pytorch_computes_is_an_obstacle(work: Callable[[Tensor], object], seen: str) -> None:
    with torch.inference_mode(), StepRecording() as recording:
        work(X)
    assert any(part in recording.obstacle for part in seen.split("|")), recording.obstacle


def test_calls_of_other_threads_are_not_noted() -> None:
    def work() -> None:
        with torch.inference_mode(), StepRecording() as recording:
            NativeOps().silu_mul(X)
        assert len(recording.entries) == 1

    with StepRecording() as recording, ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
    assert recording.entries == []


def test_views_and_allocations_are_none() -> None:
    with torch.inference_mode(), StepRecording() as recording:
        rows = torch.empty(4, 64, dtype=torch.bfloat16)
        heads = rows.view(4, 4, 16)
        heads[:, 1:], rows.chunk(2, dim=-1), rows.contiguous(), rows.unsqueeze(1), rows.flatten(0)
        out = NativeOps().silu_mul(rows)
    assert recording.obstacle == ""
    assert [tensor.shape for tensor in recording.allocated] == [rows.shape, out.shape]
    assert [name for name, _ in recording.entries] == ["gate_mul"]


def test_sum_of_ranks_is_noted_in_its_place() -> None:
    def all_reduce(x: Tensor) -> Tensor:
        return x.add_(1)

    ops = NativeOps()
    with torch.inference_mode(), StepRecording() as recording:
        rows = torch.empty(4, 64, dtype=torch.bfloat16)
        gated = ops.silu_mul(rows)
        recording.sum(all_reduce, gated)
        ops.silu_mul(gated)
    assert recording.obstacle == ""
    assert [name for name, _ in recording.entries] == ["gate_mul", "sum", "gate_mul"]
    with torch.inference_mode(), StepRecording() as recording:
        recording.sum(all_reduce, torch.empty(3))
    assert "sum" in recording.obstacle


@pytest.mark.numerics
def test_recording_loads_no_compiler() -> None:
    """A rank took 150 MB and some seconds more: PyTorch imported its compiler to keep it out."""
    code = (
        "import sys, torch\n"
        "from backend.ops.step_recording import StepRecording\n"
        "with torch.inference_mode(), StepRecording(): torch.empty(3).view(3)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_recording_ends_with_an_error() -> None:
    with pytest.raises(KeyError), StepRecording():
        raise KeyError
    with StepRecording() as recording:
        NativeOps().silu_mul(X)
    assert len(recording.entries) == 1
