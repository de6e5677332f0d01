"""`unisono bench gateway`: what one gateway worker costs, with no model behind it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from gateway.bench.bench_settings import GatewayBenchSettings
from gateway.bench.gateway import as_table, measure
from gateway.bench.streamed_request import BenchError
from gateway.default_model import default_model
from gateway.options import options_of


def run(flags: Mapping[str, object]) -> int:
    """Carry out the command. Raises SettingsError."""
    options = {option.name: option for option in options_of(GatewayBenchSettings, "bench")}
    values: dict[str, Any] = {
        name: options[name].read(value, options[name].flag) for name, value in flags.items()
    }
    settings = GatewayBenchSettings(**values)
    try:
        figures = uvloop.run(measure(settings, default_model()))
    except BenchError as error:
        sys.exit(f"unisono: {error}")
    print(as_table(figures, settings))
    if settings.json:
        Path(settings.json).write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    return 0
