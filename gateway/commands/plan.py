"""`unisono plan`: what a model takes and gives on devices, before anything is bought or loaded."""

import os
import sys
from collections.abc import Mapping

import msgspec
from rich.console import Console

from backend.config.errors import ModelError
from gateway import options
from gateway.hub import ModelNotFound
from gateway.planning.devices import parse_devices
from gateway.planning.models import HubAccess, find_model
from gateway.planning.plan import make_plan
from gateway.planning.plan_settings import PlanSettings
from gateway.planning.tables import as_tables, known_models_and_cards

# Of a pipe or a file.
PLAIN_WIDTH = 110
MAX_WIDTH = 120


def run(given: Mapping[str, object]) -> int:
    """Print the plan; 1 if no layout fits, or the model cannot be had. Raises SettingsError."""
    flags = dict(given)
    model = str(flags.pop("model", ""))
    settings = options.read(PlanSettings, flags)
    if settings.list:
        _console().print(known_models_and_cards())
        return 0
    devices = parse_devices(settings.devices)
    token = settings.hf_token or os.environ.get("HF_TOKEN", "")
    try:
        found = find_model(model, HubAccess(settings.revision, token, settings.offline))
        plan = make_plan(model, found, devices, settings)
    except (ModelNotFound, ModelError) as error:
        for line in str(error).splitlines():
            print(f"unisono: {line}", file=sys.stderr)
        return 1
    if settings.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(plan)) + b"\n")
    else:
        _console().print(as_tables(plan))
    return 0 if plan.layouts else 1


def _console() -> Console:
    console = Console()
    width = min(console.width, MAX_WIDTH) if console.is_terminal else PLAIN_WIDTH
    if "COLUMNS" in os.environ:
        width = min(console.width, MAX_WIDTH)
    # A name in brackets, as a directory may have, is no markup.
    return Console(width=max(80, width), markup=False)
