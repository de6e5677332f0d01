"""What `--devices` means: `4xA10`, `4x24GiB@600GB/s,125TFLOPS,link=32GB/s`, `4x24GiB`, cpu, cuda;
and `2x(4xA10),net=10Gb/s,0.1ms` for nodes of such.

A known card is a line of cards.json, from its maker's datasheet; figures of datasheets become those
that are reached by the shares below. A processor's are measured (`unisono calibrate`), or else
shipped for its level. Knows no model.
"""

import difflib
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import msgspec

from backend import native
from backend.placement.device_profile import (
    DeviceProfile,
    MultiplyRate,
    ProfileError,
    Serving,
    calibration_path,
    num_cores,
    processor_name,
    read_profile,
)
from backend.placement.hop import Hop
from backend.placement.memory import available_bytes
from gateway.default_model import cache_directory
from gateway.options import SettingsError

CARDS_FILE = Path(__file__).with_name("cards.json")
GIGA, TERA, GIB = 1e9, 1e12, 1 << 30
# Copies on an H100 reach 3.0 of 3.35 TB/s, on an H200 4.3 of 4.8; bfloat16 products of large
# matrices 790 of 989 TFLOPS.
READ_SHARE, MULTIPLY_SHARE = 0.9, 0.8
# The driver, a CUDA context and PyTorch's workspaces: about 1 GB of 24.
USABLE_SHARE = 0.95
# A layer on a GPU is some five products of PyTorch and six kernels of Triton, 7 and 20 us each to
# launch; an estimate.
LAYER_OVERHEAD_S, STEP_OVERHEAD_S = 150e-6, 1e-3
# What a kernel reads of keys and values in pages, beside weights in one piece; an estimate.
ATTENTION_SHARE = 0.7
# What goes from stage to stage passes through the host's memory: down and up the link.
HOP_LATENCY_S, HOST_BYTES_S = 80e-6, 4e9
# Sums go from card to card. NCCL reckons with 12 GB/s of the third generation's 16 (2.30.7,
# PCI_BW of its model of a machine); what NVLink gives is a card's own figure.
PEER_SHARE = 0.75
USUAL_LINK_GB_S = 16.0
# A request's way through the gateway, and a token's, as in tests/bench/README.md.
HOST_OVERHEAD_S, TOKEN_OVERHEAD_S = 2e-3, 60e-6
# Of a thread of a processor that nobody measured: G operations/s of 64 rows of Q4_K as int16, mixed
# and int8, and of dense rows as bf16. From `python -m tests.bench.level_rates`, 2026-11-29, an AMD
# EPYC (Zen 4, family 25, model 17) with each level forced. It has no AMX and no AVX-VNNI: of these
# int16 is of products of 2026-11-28 on Intel's, the others are what the nearest level makes of it.
_LEVEL_RATES = {
    "amx": (147, 180, 220, 140),
    "avx512_bf16": (155, 187, 234, 232),
    "avx512_vnni": (154, 187, 234, 110),
    "avx512": (131, 167, 204, 110),
    "avx_vnni": (80, 110, 134, 78),
    "avx2": (103, 146, 178, 102),
    "portable": (6, 3, 4, 1),
}
_ARITHMETICS = ("int16", "mixed", "int8", "bf16")
# How much less fewer rows reach, alike at all levels: dense weights take more room than a row pays.
_LEVEL_ROWS = ((1, 0.67), (4, 0.9), (16, 0.95), (64, 1.0))
_DENSE_ROWS = ((1, 0.3), (4, 1.0))
_TORCH_RATE = 60e9
# What else `unisono calibrate` found on the same machine and day with two threads, avx512_bf16; of
# one where it is a rate. Of attention without pairs of bf16 on AVX-512: an Intel Xeon (family 6,
# model 207) at avx512_vnni, the same day.
_THREAD_READ = 14e9
_ATTENTION_RATE = {
    "amx": 105e9, "avx512_bf16": 140e9, "avx512_vnni": 105e9, "avx512": 105e9
}  # fmt: skip
_USUAL_ATTENTION_RATE = 40e9
_MEETINGS = ((1, 5e-6), (4, 7e-6), (16, 14e-6), (64, 25e-6), (256, 62e-6))

# Not more digits than numbers have that mean something, and that Python reads.
_COUNT = re.compile(r"(?:(\d{1,18})\s*[x*]\s*)?(.+)", re.IGNORECASE)
_MEMORY = re.compile(r"(\d{1,18}(?:\.\d+)?)\s*(GiB|GB|MiB|MB|TiB|TB)(?:@(.*))?", re.IGNORECASE)
_UNITS = {"gib": GIB, "mib": 1 << 20, "tib": 1 << 40, "gb": 10**9, "mb": 10**6, "tb": 10**12}
_SPEED = re.compile(
    r"(?:((?:nv)?link)\s*=\s*)?(\d{1,18}(?:\.\d+)?)\s*(GB/s|TB/s|TFLOPS)", re.IGNORECASE
)
_NODES = re.compile(r"(\d{1,18})\s*[x*]\s*\(([^()]*)\)(?:\s*,(.*))?")
_NET = re.compile(r"net\s*=\s*(\d{1,9}(?:\.\d+)?)\s*(Gb|Mb|GB|MB)/s")
_LATENCY = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(ms|us)")
_NET_UNITS = {"Gb": 1e9 / 8, "Mb": 1e6 / 8, "GB": 1e9, "MB": 1e6}
# Of a network nobody described: 10 Gb/s, and a message's way through two hosts.
USUAL_NET = Hop(10e9 / 8, 1e-4)
_FORMS = (
    "give 4xA10, 4x24GiB@600GB/s,125TFLOPS,link=32GB/s, 4x24GiB, cuda or cpu; "
    "of nodes 2x(4xA10),net=10Gb/s,0.1ms"
)
MOST_DEVICES = 64


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of cards.json. tflops: by arithmetic, dense. link_gb_s: to the host, one direction.
    nvlink_gb_s: to another card, where every such card has it: links times what NCCL 2.30.7 takes
    one to give (SM80_NVLINK_BW and its like), 20.0 GB/s of a V100's 6 and an A100's 12, 20.6 of an
    H100's 18, 40.1 of a B200's 18."""

    name: str
    aliases: tuple[str, ...]
    memory_gib: float
    bandwidth_gb_s: float
    tflops: dict[str, float]
    link_gb_s: float
    source: str
    nvlink_gb_s: float = 0.0

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * GIB)

    def profile(self) -> DeviceProfile:
        """Return what can be reached of it."""
        return gpu_profile(
            self.name,
            self.memory_bytes,
            self.bandwidth_gb_s,
            self.tflops,
            self.link_gb_s,
            f"{self.source}; not measured",
            self.nvlink_gb_s,
        )


@dataclass(frozen=True, slots=True)
class DeviceSet:
    """Devices to lay a model out over. has_speed: whether more is known of them than memory.
    count: of all nodes, as many on each; network: between these."""

    profile: DeviceProfile
    count: int
    has_speed: bool = True
    nodes: int = 1
    network: Hop = USUAL_NET

    @property
    def is_cpu(self) -> bool:
        return self.profile.kind == "cpu"

    def __str__(self) -> str:
        if self.nodes > 1:
            return f"{self.nodes} x ({self.node_count} x {self.profile.name})"
        return self.profile.name if self.is_cpu else f"{self.count} x {self.profile.name}"

    @property
    def node_count(self) -> int:
        """Devices of a node."""
        return self.count // self.nodes


@cache
def cards() -> tuple[Card, ...]:
    """Return the known cards, by memory and then bandwidth."""
    found = msgspec.json.decode(CARDS_FILE.read_bytes(), type=tuple[Card, ...])
    return tuple(sorted(found, key=lambda card: (card.memory_gib, card.bandwidth_gb_s)))


def parse_devices(text: str, directory: Path | None = None) -> DeviceSet:
    """Return the devices that --devices names. directory: of calibrations. Raises SettingsError."""
    if "(" in text or ")" in text:
        return _nodes(text, directory)
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f"--devices {text!r}: {_FORMS}")
    count, what = int(match[1] or 1), match[2].strip()
    if not 1 <= count <= MOST_DEVICES:
        raise SettingsError(f"--devices {text}: 1 to 64 devices can be planned for, not {count}")
    if what.lower() == "cpu":
        return DeviceSet(cpu_profile(directory), num_cores())
    if what.lower() == "cuda":
        return DeviceSet(_measured_gpu(text, directory), count)
    if memory := _MEMORY.fullmatch(what):
        return _described(text, count, memory)
    return DeviceSet(_card(text, what).profile(), count)


def _nodes(text: str, directory: Path | None) -> DeviceSet:
    """Return the devices of several nodes."""
    match = _NODES.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f"--devices {text}: {_FORMS}")
    each, count = parse_devices(match[2], directory), int(match[1])
    if each.is_cpu:
        raise SettingsError(
            f"--devices {text}: nodes are planned for with GPUs alone, such as 2x(4xA10)"
        )
    if not 1 <= count * each.count <= MOST_DEVICES:
        raise SettingsError(
            f"--devices {text}: 1 to {MOST_DEVICES} devices can be planned for, "
            f"not {count * each.count}"
        )
    network = _network(text, match[3])
    return replace(each, count=count * each.count, nodes=count, network=network)


def _network(text: str, figures: str | None) -> Hop:
    bandwidth, latency_s = USUAL_NET.bandwidth, USUAL_NET.latency_s
    for part in figures.split(",") if figures is not None else ():
        if speed := _NET.fullmatch(part.strip()):
            bandwidth = float(speed[1]) * _NET_UNITS[speed[2]]
        elif late := _LATENCY.fullmatch(part.strip()):
            latency_s = float(late[1]) * (1e-3 if late[2] == "ms" else 1e-6)
        else:
            raise SettingsError(
                f"--devices {text}: {part.strip()!r} is no figure of a network; "
                "give net=10Gb/s or net=1GB/s, and its latency as 0.1ms or 100us"
            )
    if not bandwidth:
        raise SettingsError(f"--devices {text}: a network's bandwidth must be above 0")
    return Hop(bandwidth, latency_s)


def gpu_profile(
    name: str,
    memory_bytes: int,
    bandwidth_gb_s: float,
    tflops: dict[str, float],
    link_gb_s: float,
    source: str,
    nvlink_gb_s: float = 0.0,
) -> DeviceProfile:
    """Return what can be reached of a datasheet's figures. nvlink_gb_s: 0 where cards reach each
    other through the host's bridges alone."""
    read = bandwidth_gb_s * GIGA * READ_SHARE
    link = 1 / (2 / (link_gb_s * GIGA * READ_SHARE) + 1 / HOST_BYTES_S)
    return DeviceProfile(
        name=name,
        kind="cuda",
        memory_bytes=memory_bytes,
        usable_share=USABLE_SHARE,
        read_bandwidth=read,
        multiply={key: MultiplyRate(rate * TERA * MULTIPLY_SHARE) for key, rate in tflops.items()},
        attention_bandwidth=read * ATTENTION_SHARE,
        link_bandwidth=link,
        link_latency_s=HOP_LATENCY_S,
        peer_bandwidth=GIGA * (nvlink_gb_s or link_gb_s * PEER_SHARE),
        has_nvlink=nvlink_gb_s > 0,
        step_overhead_s=STEP_OVERHEAD_S,
        layer_overhead_s=LAYER_OVERHEAD_S,
        token_overhead_s=TOKEN_OVERHEAD_S,
        host_overhead_s=HOST_OVERHEAD_S,
        source=source,
    )


def cpu_profile(directory: Path | None = None) -> DeviceProfile:
    """Return this machine's processor, as it was measured or as its level has it, with the memory
    that is free now. directory: of calibrations; None: the cache's."""
    levels = native.levels()
    level = levels[0] if levels else "torch"
    directory = directory or cache_directory() / "calibration"
    path = calibration_path(directory, processor_name(), num_cores(), level)
    memory_bytes = available_bytes()
    try:
        measured = read_profile(path)
    except (ProfileError, OSError):
        return _shipped_cpu(level, memory_bytes)
    return msgspec.structs.replace(measured, memory_bytes=memory_bytes)


def _shipped_cpu(level: str, memory_bytes: int) -> DeviceProfile:
    threads = num_cores()
    if level == "torch":
        rate = MultiplyRate(_TORCH_RATE * threads, _LEVEL_ROWS)
        rates = {"bf16": rate, "fp32": rate}
    else:
        rates = {
            name: MultiplyRate(
                GIGA * rate * threads, _DENSE_ROWS if name == "bf16" else _LEVEL_ROWS
            )
            for name, rate in zip(_ARITHMETICS, _LEVEL_RATES[level], strict=True)
        }
    return DeviceProfile(
        name=f"{processor_name()}, {threads} cores, {level}",
        kind="cpu",
        memory_bytes=memory_bytes,
        read_bandwidth=_THREAD_READ * threads,
        multiply=rates,
        attention_bandwidth=0.7 * _THREAD_READ * threads,
        attention_rate=_ATTENTION_RATE.get(level, _USUAL_ATTENTION_RATE) * threads,
        link_bandwidth=2e9,
        link_latency_s=40e-6,
        step_overhead_s=290e-6,
        layer_overhead_s=6e-6 if level != "torch" else 40e-6,
        prompt_layer_overhead_s=40e-6,
        token_overhead_s=8e-6,
        element_overhead_s=6e-9 / threads,
        host_overhead_s=5e-3,
        threads=threads,
        meetings=_MEETINGS,
        beside_free_core=Serving(300e-6),
        on_all_cores=Serving(290e-6, 36e-6),
        on_each_core=Serving(250e-6, 100e-6),
        source=f"shipped figures for level {level}; unisono calibrate measures this machine",
    )


def _measured_gpu(text: str, directory: Path | None) -> DeviceProfile:
    """Return this machine's GPU as `unisono calibrate --device cuda` found it."""
    directory = directory or cache_directory() / "calibration"
    try:
        measured = read_profile(calibration_path(directory, processor_name(), num_cores(), "cuda"))
    except (ProfileError, OSError):
        raise SettingsError(
            f"--devices {text}: no GPU of this machine was measured yet, or in another way; "
            "unisono calibrate --device cuda does, or name the card"
        ) from None
    return msgspec.structs.replace(measured, usable_share=USABLE_SHARE)


def _described(text: str, count: int, memory: re.Match[str]) -> DeviceSet:
    size = int(float(memory[1]) * _UNITS[memory[2].lower()])
    name = f"{memory[1]} {memory[2]}"
    given: dict[str, float] = {}
    for part in filter(None, (memory[3] or "").split(",")):
        speed = _SPEED.fullmatch(part.strip())
        if speed is None:
            raise SettingsError(f"--devices {text}: {part.strip()!r} is no figure; {_FORMS}")
        unit = speed[3].lower()
        key = speed[1].lower() if speed[1] else "tflops" if unit == "tflops" else "bandwidth"
        given[key] = float(speed[2]) * (1000 if unit == "tb/s" else 1)
    if given and not {"bandwidth", "tflops"} <= given.keys():
        missing = "its bandwidth (600GB/s)" if "bandwidth" not in given else "its TFLOPS"
        raise SettingsError(f"--devices {text}: {missing} is missing; {_FORMS}")
    if size <= 0 or any(value <= 0 for value in given.values()):
        raise SettingsError(f"--devices {text}: every figure must be above 0")
    rate = given.get("tflops", 1.0)
    profile = gpu_profile(
        name,
        size,
        given.get("bandwidth", 1.0),
        {"bf16": rate, "fp16": rate, "fp32": rate / 4},
        given.get("link", USUAL_LINK_GB_S),
        "as given" if given else "memory alone is known: no speed can be predicted",
        given.get("nvlink", 0.0),
    )
    return DeviceSet(profile, count, has_speed=bool(given))


def _card(text: str, name: str) -> Card:
    known = {_key(each): card for card in cards() for each in (card.name, *card.aliases)}
    if found := known.get(_key(name)):
        return found
    close = difflib.get_close_matches(_key(name), known, n=3, cutoff=0.4)
    names = list(dict.fromkeys(known[key].name for key in close))
    meant = f"; did you mean {' or '.join(names)}?" if names else ""
    raise SettingsError(
        f"--devices {text}: {name} is no card that is known here{meant}\n"
        f"known are {', '.join(card.name for card in cards())}; of others give "
        "24GiB@600GB/s,125TFLOPS"
    )


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
