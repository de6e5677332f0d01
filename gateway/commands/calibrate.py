"""`unisono calibrate`: measures this machine once, for all predictions that follow.

The engine's part runs in a process of its own, which loads torch; the rest is measured of servers.
What was found is kept in the cache directory, by processor, cores and level, where `unisono plan`
and `unisono tune` look for it.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from backend import native
from backend.native.level import choose_level
from backend.placement.device_profile import (
    DeviceProfile,
    MultiplyRate,
    Serving,
    at_rows,
    calibration_path,
    num_cores,
    processor_name,
)
from backend.settings import EngineSettings
from gateway import options
from gateway.bench.launched_server import ServerDied
from gateway.bench.streamed_request import BenchError
from gateway.commands.calibrate_settings import CalibrateSettings
from gateway.default_model import cache_directory
from gateway.options import SettingsError
from gateway.tuning.served_costs import with_serving

_MEASURE = (sys.executable, "-m", "backend.measurement.calibrate")
_SHOWN_ROWS = (1, 4, 16, 64, 256)
GIGA = 1e9


def run(given: Mapping[str, object]) -> int:
    """Measure, keep and print; return the exit status. Raises SettingsError."""
    settings = options.read(CalibrateSettings, given)
    path = profile_path(settings.device, settings.kernels)
    _check_writable(path.parent)
    started_s = time.monotonic()
    profile = measure_engine(settings.device, settings.kernels)
    if settings.device == "cpu":
        profile = _with_servers(profile, settings.kernels)
    scratch = path.with_suffix(".new")
    scratch.write_bytes(profile.as_json())
    scratch.replace(path)
    _say(f"kept in {path}, after {time.monotonic() - started_s:.0f} s")
    sys.stdout.write(profile.as_json().decode() if settings.json else as_table(profile) + "\n")
    return 0


def _check_writable(directory: Path) -> None:
    """Make the directory of profiles, before a minute of measuring. Raises SettingsError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise SettingsError(
            f"{directory} cannot be written to: {error.strerror}; UNISONO_CACHE names another"
        ) from None


def profile_path(device: str, kernels: str) -> Path:
    """Return where the profile of this machine is kept. Raises SettingsError for kernels that are
    not to be had."""
    return calibration_path(
        cache_directory() / "calibration", processor_name(), num_cores(), _level(device, kernels)
    )


def _level(device: str, kernels: str) -> str:
    if device != "cpu":
        return device
    present = native.levels()
    if kernels == "torch" or (kernels == "auto" and not present):
        return "torch"
    try:
        return choose_level(kernels, present)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def measure_engine(device: str, kernels: str) -> DeviceProfile:
    """Have another process measure; its progress goes to stderr. SystemExit with what it said if it
    fails; it does not outlive this call."""
    with subprocess.Popen(
        [*_MEASURE, "--device", device, "--kernels", kernels],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        try:
            answer = child.stdout.read()
        finally:
            # On Ctrl-C, too: nothing goes on measuring for nobody.
            if child.poll() is None:
                child.terminate()
    if child.returncode:
        sys.exit("unisono: nothing was kept")
    return msgspec.json.decode(answer, type=DeviceProfile)


def _with_servers(profile: DeviceProfile, kernels: str) -> DeviceProfile:
    """Add what a server takes beside its engine."""
    try:
        settings = msgspec.convert({"kernels": kernels}, EngineSettings)
        return with_serving(profile, settings, _say)
    except (ServerDied, BenchError) as error:
        _say(f"it is left out: {error}")
        return profile


def as_table(profile: DeviceProfile) -> str:
    """Write what was measured for people."""
    head = [
        profile.name,
        f"  {profile.source}",
        f"  memory                  {profile.memory_bytes / GIGA:8.1f} GB",
        *_reading(profile),
        f"  keys and values         {profile.attention_bandwidth / GIGA:8.1f} GB/s, decoding",
        f"  a prompt's attention    {profile.attention_rate / 2 / GIGA:8.1f} G multiply-adds/s",
    ]
    if profile.link_bandwidth:
        head.append(
            f"  a sum over ranks        {1e6 * profile.link_latency_s:8.0f} us, and "
            f"{profile.link_bandwidth / GIGA:.2f} GB/s"
        )
    if profile.meetings:
        meetings = ", ".join(f"{1e6 * at_rows(profile.meetings, n, 0.0):.0f}" for n in _SHOWN_ROWS)
        shares = ", ".join(f"{at_rows(profile.thread_shares, n, 1.0):.0%}" for n in _SHOWN_ROWS)
        rows = ", ".join(map(str, _SHOWN_ROWS))
        head += [
            f"  threads meet, a product {meetings} us with {rows} rows",
            f"  one thread alone makes  {shares} of what all do",
        ]
    head += [
        f"  a step, a layer         {1e6 * profile.step_overhead_s:8.0f} us, "
        f"{1e6 * profile.layer_overhead_s:.0f} us "
        f"({1e6 * profile.prompt_layer_overhead_s:.0f} with prompts)",
        f"  a token, a request      {1e6 * profile.token_overhead_s:8.0f} us, "
        f"{1e6 * profile.host_overhead_s:.0f} us: sampling, scheduler; gateway",
        *(_serving(*each) for each in _served(profile)),
        "",
        "G multiply-adds/s by rows",
        "  arithmetic:format " + "".join(f"{rows:>8}" for rows in _SHOWN_ROWS),
    ]
    return "\n".join([*head, *(_rates(name, rate) for name, rate in profile.multiply.items())])


def _reading(profile: DeviceProfile) -> list[str]:
    by_size = profile.read_by_bytes or ((0, profile.read_bandwidth),)
    lines = [
        f"  weights of {size / 1e6:6,.0f} MB    {rate / GIGA:8.1f} GB/s" for size, rate in by_size
    ]
    if profile.thread_read_bandwidth:
        lines.append(f"  ..., with one thread    {profile.thread_read_bandwidth / GIGA:8.1f} GB/s")
    return lines


def _served(profile: DeviceProfile) -> tuple[tuple[str, Serving], ...]:
    return (
        ("beside a free core", profile.beside_free_core),
        ("threads on all", profile.on_all_cores),
        ("one thread each", profile.on_each_core),
    )


def _serving(words: str, serving: Serving) -> str:
    return (
        f"  served, {words:<16}{1e6 * serving.step_s:8.0f} us a step, "
        f"{1e6 * serving.token_s:.0f} us a token"
    )


def _rates(name: str, rate: MultiplyRate) -> str:
    cells = (f"{rate.at(rows) / 2 / GIGA:8.1f}" for rows in _SHOWN_ROWS)
    return f"  {name:<18}" + "".join(cells)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
