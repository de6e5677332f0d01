"""The card: its name, how fast it copies and multiplies."""

import functools
import statistics
from collections.abc import Callable

import msgspec
import torch

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


def measure_device() -> DeviceResults:
    """Time large copies and products on the current card."""
    import triton

    properties = torch.cuda.get_device_properties(0)
    size = min(COPY_BYTES, properties.total_memory // 8)
    source = torch.ones(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_s = _median_s(functools.partial(target.copy_, source))
    del source, target
    matrix = torch.randn(SIDE, SIDE, device="cuda").bfloat16()
    product_s = _median_s(lambda: matrix @ matrix)
    return DeviceResults(
        properties.name,
        properties.total_memory,
        torch.__version__,
        triton.__version__,
        2 * size / copy_s,
        2 * SIDE**3 / product_s,
    )


def _median_s(work: Callable[[], object], times: int = 20) -> float:
    for _ in range(3):
        work()
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
    return statistics.median(seconds)
