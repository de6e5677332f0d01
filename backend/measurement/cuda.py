"""Measures one NVIDIA device the way calibrate.py measures a CPU.

Written after PyTorch's documentation; it has not been run on a device yet. Stages on GPUs exchange
through the host's memory, so the link is a copy down, what ranks do there, and a copy up. Ranks
sum from card to card: how fast one writes to another is measured, the rest is NCCL's model
(placement/sum_cost.py).
"""

from collections.abc import Callable

import torch

from backend.config.errors import ModelError
from backend.measurement.all_reduce import Link, measure_link
from backend.measurement.measured_profile import with_costs
from backend.measurement.products import Rates, torch_rate
from backend.measurement.step_costs import step_costs
from backend.measurement.timing import seconds_of
from backend.placement.device_profile import DeviceProfile, num_cores
from backend.settings import EngineSettings

# Large enough that launching is nothing, small enough for any card.
BUFFER_BYTES = 1 << 30
COPIED_BYTES = 1 << 22
# More than sixteen lanes of the fifth generation give.
PCIE_BANDWIDTH = 64e9
# Features of the weights that are multiplied by: 384 x 32, as the products of a model of 7b have.
THREADS_ALIKE = 32
ARITHMETIC = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def calibrate_cuda(report: Callable[[str], None]) -> DeviceProfile:
    """Measure the first device. Raises ModelError if PyTorch sees none."""
    if not torch.cuda.is_available():
        build = "" if torch.version.cuda else "; this PyTorch was built without CUDA"
        raise ModelError(
            f"--device cuda: PyTorch sees no CUDA device on this machine{build}\n"
            "see what nvidia-smi says, or leave --device out to measure the CPU"
        )
    device = torch.device("cuda", 0)
    properties = torch.cuda.get_device_properties(device)
    report(f"{properties.name}: how fast memory is read")
    read_bandwidth = _read_bandwidth(device)
    report("how fast weights are multiplied by")
    rates: Rates = {
        name: torch_rate(dtype, device, THREADS_ALIKE)
        for name, dtype in ARITHMETIC.items()
        if dtype != torch.bfloat16 or torch.cuda.is_bf16_supported()
    }
    report("what a step takes beside its products")
    costs = step_costs(EngineSettings(device="cuda"), num_cores())
    link, peer = Link(0.0, 0.0), 0.0
    if torch.cuda.device_count() > 1:
        report("what goes from one device to another")
        link, peer = _link(device), _peer_bandwidth(device, torch.device("cuda", 1))
    profile = DeviceProfile(
        name=properties.name,
        kind="cuda",
        memory_bytes=properties.total_memory,
        read_bandwidth=read_bandwidth,
        multiply=rates,
        peer_bandwidth=peer,
        has_nvlink=peer > PCIE_BANDWIDTH,
    )
    return with_costs(profile, costs, link)


def _read_bandwidth(device: torch.device) -> float:
    buffer = torch.ones(BUFFER_BYTES // 4, device=device)

    def read() -> None:
        buffer.sum()
        torch.cuda.synchronize(device)

    return BUFFER_BYTES / seconds_of(read)


def _peer_bandwidth(first: torch.device, second: torch.device) -> float:
    """Return bytes/s of copies from a device to another."""
    source = torch.ones(BUFFER_BYTES // 16, device=first)
    target = torch.empty_like(source, device=second)

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize(first)
        torch.cuda.synchronize(second)

    return source.nbytes / seconds_of(copy)


def _link(device: torch.device) -> Link:
    """Add the copies between a device and the host to what the ranks' sum takes there."""
    on_host = measure_link(2)
    values = torch.ones(COPIED_BYTES // 2, dtype=torch.bfloat16, device=device)
    one = values[:1]

    def copy(part: torch.Tensor) -> None:
        part.copy_(part.cpu())
        torch.cuda.synchronize(device)

    latency_s = seconds_of(lambda: copy(one))
    whole_s = seconds_of(lambda: copy(values))
    byte_s = max(0.0, whole_s - latency_s) / COPIED_BYTES + 1 / on_host.bandwidth
    return Link(on_host.latency_s + latency_s, 1 / byte_s)
