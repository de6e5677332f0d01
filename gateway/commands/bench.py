"""`unisono bench serve`: loads a running server and prints what it did.

The server may be any that speaks /v1/completions. Progress goes to stderr, the table to stdout.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from gateway import options
from gateway.bench.bench_settings import BenchSettings
from gateway.bench.client import fetch_json
from gateway.bench.load import LevelResult, run_rounds
from gateway.bench.report import Report
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.workload import Workload, calibrate
from gateway.client_key import key_for
from gateway.options import SettingsError


def run(flags: Mapping[str, object]) -> int:
    """Carry out the command; 1 if any request failed or the server cannot be measured."""
    settings = load(flags)
    try:
        report = uvloop.run(measure(settings))
    except BenchError as error:
        sys.exit(f"unisono: {error}")
    print(report.as_table())
    if settings.json:
        Path(settings.json).write_bytes(report.as_json())
    return 1 if report.has_errors else 0


def load(flags: Mapping[str, object]) -> BenchSettings:
    """Check the flags. Raises SettingsError."""
    settings = options.read(BenchSettings, flags)
    _extra_fields(settings)
    # Told now rather than after minutes of measuring.
    if settings.json and not Path(settings.json).parent.is_dir():
        raise SettingsError(f"--json {settings.json}: there is no such directory")
    return settings


async def measure(settings: BenchSettings) -> Report:
    """Put the server through all levels and rounds. Raises BenchError if it cannot be begun."""
    api_key = key_for(settings.url, settings.api_key, os.environ)
    target = Target.parse(settings.url, api_key)
    model = settings.model or await _first_model(target)
    workload = Workload(
        model=model,
        prompt_tokens=settings.prompt_tokens,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        ignore_eos=settings.ignore_eos,
        prompt_ids=settings.prompt_ids,
        extra=_extra_fields(settings),
        timeout_s=settings.timeout_s,
    )
    await calibrate(target, workload)
    print(
        f"{model} at {target}: prompt {settings.prompt_tokens}, output {settings.max_tokens}, "
        f"temperature {settings.temperature:g}, {settings.rounds} rounds",
        file=sys.stderr,
    )
    results = await run_rounds(
        target,
        workload,
        settings.concurrency,
        settings.rounds,
        num_requests=settings.requests,
        report=_progress,
    )
    return Report.of(msgspec.structs.replace(settings, model=model, api_key=""), results)


def _progress(round_: int, result: LevelResult) -> None:
    failed = f", {result.num_errors} failed" if result.num_errors else ""
    print(
        f"round {round_ + 1}, {result.concurrency} streams: "
        f"{result.output_tokens_per_s:.1f} tokens/s{failed}",
        file=sys.stderr,
        flush=True,
    )


def _extra_fields(settings: BenchSettings) -> dict[str, Any]:
    try:
        return msgspec.json.decode(settings.extra or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"--extra must be a JSON object: {error}") from error


async def _first_model(target: Target) -> str:
    models = await fetch_json(target, "/v1/models")
    try:
        return str(models["data"][0]["id"])
    except (KeyError, IndexError, TypeError) as error:
        raise BenchError(f"{target}/v1/models names no model; name one with --model") from error
