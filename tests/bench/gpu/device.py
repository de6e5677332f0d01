"""The card: its name, how fast it copies and multiplies."""

import functools
import os
import statistics
import time
from collections.abc import Callable

import msgspec
import torch

# A card that was idle takes a while to its clocks: what is timed comes after so much work.
WARM_UP_S = 1.0
COPY_BYTES = 4 << 30
SIDE = 8192


class DeviceResults(msgspec.Struct):
    """bytes_s: read and written by a copy, together; flops_s: of a bfloat16 product."""

    name: str
    memory_bytes: int
    torch: str
    triton: str
    bytes_s: float
    flops_s: float


def measure_device(
    device: str = "cuda", copy_bytes: int = COPY_BYTES, side: int = SIDE
) -> DeviceResults:
    """Time large copies and products on the current card. device: or on the CPU, to try it."""
    import triton

    name, memory_bytes = _name(device)
    size = min(copy_bytes, memory_bytes // 8)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _median_s(functools.partial(target.copy_, source), device)
    del source, target
    matrix = torch.randn(side, side, device=device).bfloat16()
    product_s = _median_s(lambda: matrix @ matrix, device)
    return DeviceResults(
        name,
        memory_bytes,
        str(torch.__version__),
        triton.__version__,
        2 * size / copy_s,
        2 * side**3 / product_s,
    )


def _name(device: str) -> tuple[str, int]:
    if device == "cpu":
        return "no card", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    properties = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory


def _median_s(work: Callable[[], object], device: str, times: int = 20) -> float:
    if device == "cpu":
        _host_s(work, 3)
        return statistics.median(_host_s(work, times))
    started = time.perf_counter()
    while time.perf_counter() - started < WARM_UP_S:
        _device_s(work, 3)
    return statistics.median(_device_s(work, times))


def _host_s(work: Callable[[], object], times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def _device_s(work: Callable[[], object], times: int) -> list[float]:
    seconds: list[float] = []
    for _ in range(times):
        start, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        start.record()
        work()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return seconds
