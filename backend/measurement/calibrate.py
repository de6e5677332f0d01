"""Measures this machine for the model of cost: `python -m backend.measurement.calibrate`.

Writes what it is at to stderr, a line each, and a DeviceProfile as JSON to stdout at the end. A
process of its own: it loads torch and takes all cores. Started by `unisono calibrate`.
"""

import argparse
import os
import sys

# Before torch is loaded: how long OpenMP's threads spin, as ranks have it.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

from backend.engine.platform import DTYPES, resolve_dtype, select_level
from backend.measurement.all_reduce import Link, measure_link
from backend.measurement.measured_profile import with_costs
from backend.measurement.products import (
    READ_BYTES,
    READ_FORMAT,
    Rates,
    native_rates,
    native_reads,
    thread_shares,
    threads_meet,
    torch_rate,
    torch_reads,
)
from backend.measurement.step_costs import step_costs
from backend.native.level import LEVELS
from backend.placement.device_profile import (
    ByRows,
    DeviceProfile,
    MultiplyRate,
    at_rows,
    num_cores,
    processor_name,
)
from backend.settings import EngineSettings

CPU = torch.device("cpu")
MAX_RANKS = 8
# (bytes, bytes/s), ascending.
Reads = tuple[tuple[int, float], ...]
_ARITHMETIC = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def main() -> None:
    """Measure the CPU, or a GPU with --device cuda."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--kernels", default="auto")
    args = parser.parse_args()
    if args.device == "cuda":
        from backend.measurement.cuda import calibrate_cuda

        profile = calibrate_cuda(_say)
    else:
        profile = calibrate_cpu(EngineSettings(device="cpu", kernels=args.kernels))
    sys.stdout.buffer.write(profile.as_json())


def calibrate_cpu(settings: EngineSettings) -> DeviceProfile:
    """Measure what ranks on this machine's CPU would have; of the gateway nothing.

    settings: device and kernels count. Raises ModelError for kernels that are not to be had.
    """
    dtype = DTYPES[resolve_dtype(settings, CPU)]
    level = select_level(settings, dtype, CPU)
    cores = num_cores()
    link = Link(0.0, 0.0)
    if cores > 1:
        _say("what sums over ranks take")
        link = measure_link(min(cores, MAX_RANKS))
    _say("what a step takes beside its products")
    costs = step_costs(settings, cores)
    shares: ByRows = ()
    meetings: ByRows = ()
    if level in LEVELS:
        rates = native_rates(cores, _say)
        if cores > 1:
            _say("what one thread does alone, and what threads take to meet")
            shares, meetings = thread_shares(cores, rates), threads_meet(cores)
    else:
        _say("how fast weights are multiplied by")
        rates = {_ARITHMETIC[dtype]: torch_rate(dtype, CPU, cores)}
    _say("how fast weights are read")
    reads, thread_reads = _reads(cores, rates, shares, is_native=level in LEVELS)
    profile = DeviceProfile(
        name=f"{processor_name()}, {cores} cores, {level}",
        kind="cpu",
        memory_bytes=_memory_bytes(),
        read_bandwidth=reads[-1][1],
        thread_read_bandwidth=thread_reads[-1][1],
        read_by_bytes=reads,
        thread_read_by_bytes=thread_reads,
        multiply=rates,
        thread_shares=shares,
        meetings=meetings,
        threads=cores,
    )
    return with_costs(profile, costs, link)


def _reads(cores: int, rates: Rates, shares: ByRows, *, is_native: bool) -> tuple[Reads, Reads]:
    """Return bytes/s by size with all threads, and with one, which makes `shares` of the rates."""
    sizes = [size for size in READ_BYTES if size <= _memory_bytes() // 8] or [READ_BYTES[0]]
    if not is_native:
        return torch_reads(cores, sizes), torch_reads(1, sizes)
    rate = rates[f"int16:{READ_FORMAT.value}"]
    single = MultiplyRate(rate.at(1) * at_rows(shares, 1, 1 / cores))
    # In turns, so that what others do seldom meets both rounds of one of them.
    rounds = [(native_reads(cores, rate, sizes), native_reads(1, single, sizes)) for _ in range(2)]
    found = [(tuple(together), tuple(alone)) for together, alone in rounds]
    return _faster(*(each[0] for each in found)), _faster(*(each[1] for each in found))


def _faster(first: Reads, second: Reads) -> Reads:
    """Return of each size the higher of two rates: others only ever slow one down."""
    pairs = zip(first, second, strict=True)
    return tuple((size, max(rate, other)) for (size, rate), (_, other) in pairs)


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
