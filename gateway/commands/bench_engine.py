"""`unisono bench engine`: times of an engine's steps, in process, without gateway and HTTP."""

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from backend.config.errors import ModelError
from backend.settings import EngineSettings
from backend.wire.step_times import FromMeasurement, MeasuredEngine, NotMeasured
from gateway import hub, options
from gateway.bench.engine_bench_settings import EngineBenchSettings
from gateway.bench.engine_steps import as_table, measure
from gateway.bench.streamed_request import BenchError
from gateway.bench.watch import Bars
from gateway.commands.found_model import found_model
from gateway.commands.output_files import check_output
from gateway.options import SettingsError, options_of, suggestion

# A process of its own computes, alone: there are no other ranks and groups.
_ONE_PROCESS = frozenset({"tp", "dp", "expert_parallel", "test_faults", "model"})


def run(flags: Mapping[str, object]) -> int:
    """Carry out the command. Raises SettingsError."""
    settings = load(flags)
    engine = msgspec.structs.replace(_engine(settings), model=settings.model)
    try:
        path = found_model(engine)
    except (hub.ModelNotFound, ModelError) as error:
        sys.exit(f"unisono: {error}")
    engine = msgspec.structs.replace(engine, model=str(path))
    decodes = list(itertools.product(settings.batch, settings.context))
    prompts = list(itertools.product(settings.prompt_batch, settings.prompts))
    try:
        with Bars("shapes", len(decodes) + len(prompts)) as bars:
            report = measure(
                engine,
                settings.sampling,
                decodes,
                prompts,
                settings.steps,
                lambda message: _progress(bars, message),
            )
    except BenchError as error:
        sys.exit(f"unisono: {error}")
    print(as_table(report))
    if settings.json:
        Path(settings.json).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if settings.html:
        from gateway.bench.engine_page import engine_page

        Path(settings.html).write_text(engine_page(report), encoding="utf-8")
    return 0 if report.times else 1


def load(flags: Mapping[str, object]) -> EngineBenchSettings:
    """Check the flags. Raises SettingsError."""
    settings = options.read(EngineBenchSettings, flags)
    _engine(settings)
    check_output(json=settings.json, html=settings.html)
    if settings.html:
        from gateway.bench import charts

        charts.check_installed()
    return settings


def _engine(settings: EngineBenchSettings) -> EngineSettings:
    """Return what --engine says, checked as `unisono serve` would check it."""
    try:
        given = msgspec.json.decode(settings.engine or "{}", type=dict[str, object])
    except msgspec.DecodeError as error:
        raise SettingsError(f"--engine must be a JSON object: {error}") from error
    known = {option.name: option for option in options_of(EngineSettings, "engine")}
    for name in given:
        if name in _ONE_PROCESS:
            raise SettingsError(f"--engine: {name} means nothing to an engine that is alone")
        if name not in known:
            raise SettingsError(f"--engine: {name} is not a setting{suggestion(name, known)}")
    values = {name: known[name].read(value, f"--engine: {name}") for name, value in given.items()}
    return EngineSettings(**values)  # type: ignore[arg-type]  # each was read as its field's type


def _progress(bars: Bars, message: FromMeasurement) -> None:
    if isinstance(message, MeasuredEngine):
        return
    bars.skips(1)
    if isinstance(message, NotMeasured):
        bars.prints(f"{message.kind} of {message.batch} x {message.tokens}: {message.reason}")
