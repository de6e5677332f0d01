"""`unisono bench sweep`: starts a server for each layout of a grid and measures it at all levels.

Progress goes to stderr, the table to stdout; every figure to a file that a sweep goes on from.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from backend.settings import EngineSettings
from gateway import options
from gateway.bench.machine import machine_name
from gateway.bench.presets import with_preset
from gateway.bench.sweep.report import as_table
from gateway.bench.sweep.results import Layout, Load, Results, ResultsError, read_results
from gateway.bench.sweep.runner import Sweep, forget_missing
from gateway.bench.sweep.sweep_settings import SweepSettings
from gateway.bench.watch import Bars
from gateway.commands.output_files import check_output
from gateway.options import SettingsError, suggestion
from gateway.settings import setting_options

_KNOWN = frozenset(SweepSettings.__struct_fields__)
# What the grid or the measurement says in the place of --serve.
_SAID_ELSEWHERE = frozenset({*Layout.__struct_fields__, "port", "host", "log_format"})


def run(flags: Mapping[str, object]) -> int:
    """Carry out the command; 1 if nothing could be measured. Raises SettingsError."""
    settings = load(flags)
    try:
        results = sweep(settings)
    except ResultsError as error:
        raise SettingsError(str(error)) from error
    print(as_table(results))
    if settings.html:
        from gateway.bench.sweep.sweep_page import sweep_page

        Path(settings.html).write_text(sweep_page(results), encoding="utf-8")
    return 0 if any(point.rounds for run in results.runs for point in run.points) else 1


def load(flags: Mapping[str, object]) -> SweepSettings:
    """Check the flags before minutes of measuring. Raises SettingsError."""
    settings = options.read(SweepSettings, with_preset(flags, _KNOWN))
    _object(settings.extra, "--extra")
    _serve_settings(settings)
    check_output(results=settings.results, html=settings.html)
    if settings.html:
        from gateway.bench import charts

        charts.check_installed()
    return settings


def sweep(settings: SweepSettings) -> Results:
    """Measure what is not in the file of results yet; return all of them. Raises ResultsError."""
    path = Path(settings.results)
    results = read_results(path, load_of(settings), machine_name())
    if settings.retry:
        forget_missing(results)
    levels = sorted(set(settings.concurrency))
    layouts = grid(settings)
    total = len(layouts) * len(levels) * settings.rounds
    with Bars("sweep", total) as bars:
        Sweep(
            results,
            path,
            levels,
            settings.rounds,
            settings.timeout_s,
            settings.start_seconds,
            bars,
        ).run(layouts)
    return results


def load_of(settings: SweepSettings) -> Load:
    """Return what every server is asked, and told beside its layout."""
    return Load(
        prompt_tokens=settings.prompt_tokens,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        requests=settings.requests,
        extra=_object(settings.extra, "--extra"),
        serve=_serve_settings(settings),
    )


def grid(settings: SweepSettings) -> list[Layout]:
    """Return every combination, models outermost."""
    axes = (
        settings.model or ("",),
        settings.dtype,
        settings.quantization,
        settings.tp,
        settings.dp,
    )
    return [Layout(*combination) for combination in itertools.product(*axes)]


def _object(text: str, flag: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"{flag} must be a JSON object: {error}") from error


def _serve_settings(settings: SweepSettings) -> dict[str, object]:
    """Return what --serve says, checked as `unisono serve` would check it."""
    given = _object(settings.serve, "--serve")
    known = {option.name: option for table in setting_options().values() for option in table}
    for name, value in given.items():
        if name in _SAID_ELSEWHERE:
            where = f"--{name}" if name in EngineSettings.__struct_fields__ else "the sweep"
            raise SettingsError(f"--serve: {name} is for {where} to say")
        if name not in known:
            raise SettingsError(f"--serve: {name} is not a setting{suggestion(name, known)}")
        known[name].read(value, f"--serve: {name}")
    return given
