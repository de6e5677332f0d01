"""`unisono bench gateway`: what one gateway worker costs, with no model behind it."""

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import uvloop

from gateway import options
from gateway.bench.bench_settings import GatewayBenchSettings
from gateway.bench.gateway import as_table, measure
from gateway.bench.streamed_request import BenchError
from gateway.commands.output_files import check_output
from gateway.default_model import ModelNotFound, default_model


def run(flags: Mapping[str, object]) -> int:
    """Carry out the command. Raises SettingsError."""
    settings = options.read(GatewayBenchSettings, flags)
    check_output(json=settings.json)
    try:
        figures = uvloop.run(measure(settings, default_model()))
    except (BenchError, ModelNotFound) as error:
        sys.exit(f"unisono: {error}")
    print(as_table(figures, settings))
    if settings.json:
        Path(settings.json).write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    return 0
