"""What a device can do, in the numbers that a prediction of speed and memory needs.

All are achievable figures, not a datasheet's peaks: measured by `unisono calibrate`, or derived
where a card is only known by name. Knows no model. Read by what predicts; written by
who measures.
"""

import os
import re
from bisect import bisect_left
from math import log
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

# Of what `unisono calibrate` measures, and how: figures of another are measured anew, all of them.
PROFILE_VERSION = 4

Arithmetic = Literal["mixed", "int8", "int16", "fp8", "bf16", "fp16", "fp32"]

DeviceKind = Literal["cpu", "cuda"]

_Positive = Annotated[float, Meta(gt=0)]
_Seconds = Annotated[float, Meta(ge=0)]
# (rows of a product, what it has with so many), rows ascending.
ByRows = tuple[tuple[int, float], ...]


class ProfileError(ValueError):
    """A kept profile cannot be read, or is another version's. Names the file."""


class MultiplyRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast matrices are multiplied in one arithmetic.

    peak: operations/s, two a multiply-add, with as many rows as help. by_rows: (rows, share of the
    peak), rows ascending: few rows leave tiles of a kernel idle. Empty: the peak at any number.
    """

    peak: _Positive
    by_rows: ByRows = ()

    def at(self, rows: float) -> float:
        """Return operations/s with so many rows: between two that are known, in proportion."""
        return self.peak * at_rows(self.by_rows, rows, 1.0)


class Serving(NamedTuple):
    """What serving adds to an engine's step: to each, and for each token in it."""

    step_s: float = 0.0
    token_s: float = 0.0


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One device, or one machine's processor with all the threads that serve.

    memory_bytes: all of it. usable_share: of it for a server. read_bandwidth: bytes/s of weights
    with all threads. thread_read_bandwidth: with one (0: its share). multiply: by arithmetic
    ("int8", "bf16"), or by arithmetic and weight format ("int8:Q4_K"), which goes first.
    attention_bandwidth: bytes/s of keys and values while decoding (0: read_bandwidth).
    attention_rate: operations/s of a prompt's attention (0: the arithmetic's of matrices).
    link_bandwidth, link_latency_s: between devices of one machine, each direction, and what a sum
    over ranks takes before its first byte. step_overhead_s: a step's serial part. layer_overhead_s:
    a layer's, beside its products: launches, norms, barriers. token_overhead_s: a row's: sampling,
    its text. host_overhead_s: what a request takes before its first step. threads: of a CPU.
    source: where the numbers come from, for people. read_by_bytes: (bytes, bytes/s) of weights that
    take turns, ascending: those of a small model may stay in a cache (empty: read_bandwidth).
    element_overhead_s: a hidden unit's of a token in a layer: norms, rotations, gates.
    logit_overhead_s: a logit's that is sampled from, beyond greedy. thread_read_by_bytes: as
    read_by_bytes, with one thread, which a cache helps less. beside_free_core, on_all_cores,
    on_each_core: what serving adds to a step, a gateway worker and a client on the same machine:
    of ranks that leave a core free, of threads that meet in every product and take all cores, of
    ranks of one thread that do. thread_shares: of what all threads multiply, the part that one
    makes while the others rest, by rows (empty: its share of the threads). meetings: what threads
    that share out a product take to meet in it, beside their shares, by rows.
    prompt_layer_overhead_s: layer_overhead_s of a step whose kernels Python calls one by one, as
    those with prompts and of several ranks (0: the same). peer_bandwidth: bytes/s from a card to
    another, in one direction (0: they sum in the host's memory, which link_bandwidth and
    link_latency_s are of). has_nvlink: whether that is by NVLink. version: of how it was measured;
    0: it was not.
    """

    name: str
    kind: DeviceKind
    memory_bytes: Annotated[int, Meta(ge=0)]
    read_bandwidth: _Positive
    multiply: dict[str, MultiplyRate]
    usable_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    thread_read_bandwidth: _Seconds = 0.0
    attention_bandwidth: _Seconds = 0.0
    attention_rate: _Seconds = 0.0
    link_bandwidth: _Seconds = 0.0
    link_latency_s: _Seconds = 0.0
    step_overhead_s: _Seconds = 0.0
    layer_overhead_s: _Seconds = 0.0
    token_overhead_s: _Seconds = 0.0
    host_overhead_s: _Seconds = 0.0
    threads: Annotated[int, Meta(ge=1)] = 1
    source: str = ""
    read_by_bytes: tuple[tuple[int, float], ...] = ()
    element_overhead_s: _Seconds = 0.0
    logit_overhead_s: _Seconds = 0.0
    thread_read_by_bytes: tuple[tuple[int, float], ...] = ()
    beside_free_core: Serving = Serving()
    on_all_cores: Serving = Serving()
    on_each_core: Serving = Serving()
    prompt_layer_overhead_s: _Seconds = 0.0
    peer_bandwidth: _Seconds = 0.0
    has_nvlink: bool = False
    thread_shares: ByRows = ()
    meetings: ByRows = ()
    version: int = 0

    def read_bandwidth_of(self, num_bytes: float) -> float:
        """Return bytes/s at which so many bytes are read that take turns, with all threads."""
        return _at_size(self.read_by_bytes, num_bytes) or self.read_bandwidth

    def thread_read_bandwidth_of(self, num_bytes: float) -> float:
        """Return the same of one thread; its share where that was not measured."""
        known = _at_size(self.thread_read_by_bytes, num_bytes) or self.thread_read_bandwidth
        return known or self.read_bandwidth_of(num_bytes) / self.threads

    def multiply_rate(self, arithmetic: str, weight_format: str = "") -> MultiplyRate | None:
        """Return the rate of products of weights stored as `weight_format`; None if unknown."""
        named = self.multiply.get(f"{arithmetic}:{weight_format}")
        return named or self.multiply.get(arithmetic)

    def as_json(self) -> bytes:
        """Return the profile as an indented JSON object."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


def at_rows(known: ByRows, rows: float, unknown: float) -> float:
    """Return what is known of so many rows: between two numbers of rows in proportion, beyond the
    last what that one has. unknown: what there is where nothing is known."""
    if not known:
        return unknown
    right = bisect_left(known, (rows,))
    if right in (0, len(known)):
        return known[min(right, len(known) - 1)][1]
    (low, before), (high, after) = known[right - 1], known[right]
    return before + (after - before) * (rows - low) / (high - low)


def _at_size(known: tuple[tuple[int, float], ...], num_bytes: float) -> float:
    """Return what is known of a size, between two sizes by its logarithm; 0 if nothing is."""
    if not known:
        return 0.0
    right = bisect_left([size for size, _ in known], num_bytes)
    if right in (0, len(known)):
        return known[min(right, len(known) - 1)][1]
    (low, before), (high, after) = known[right - 1], known[right]
    return before + (after - before) * log(num_bytes / low) / log(high / low)


def read_profile(path: Path) -> DeviceProfile:
    """Return a profile that was kept. Raises ProfileError, for one of another version as well,
    and OSError."""
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=DeviceProfile)
    except msgspec.DecodeError as error:
        raise ProfileError(f"{path} is no device profile: {error}; measure it anew") from error
    if profile.version != PROFILE_VERSION:
        raise ProfileError(f"{path} was measured in another way; measure it anew")
    return profile


def calibration_path(directory: Path, processor: str, num_cores: int, level: str) -> Path:
    """Return where the profile of a processor is kept, by what its figures depend on.

    level: of the kernels that were measured. num_cores: those this process may run on.
    """
    name = re.sub(r"[^a-z0-9]+", "-", processor.lower()).strip("-") or "processor"
    return directory / f"{name}-{num_cores}-{level}.json"


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what the processor calls itself; its architecture where it does not say."""
    for line in cpuinfo.read_text().splitlines():
        field, _, value = line.partition(":")
        if field.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return os.uname().machine


def num_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0))
