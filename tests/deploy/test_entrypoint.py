"""What the images run, with a `unisono` that only shows how it was called."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "deploy" / "entrypoint.sh"
TAKEOFF = {"TAKEOFF_MODEL_NAME": "org/name"}


def run(directory: Path, arguments: list[str], environ: dict[str, str]) -> tuple[str, str]:
    """Return what `unisono` was called with, and what the operator was told."""
    stub = directory / "unisono"
    stub.write_text('#!/bin/sh\necho "$UNISONO_ALLOW_ANONYMOUS|$*"\n')
    stub.chmod(0o755)
    path = f"{directory}:{os.environ['PATH']}"
    variables = {"PATH": path, "UNISONO_ALLOW_ANONYMOUS": "", **environ}
    done = subprocess.run(
        [ENTRYPOINT, *arguments], env=variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip(), done.stderr


def test_takeoffs_variables_open_the_server_and_say_so(tmp_path: Path) -> None:
    called, told = run(tmp_path, ["serve"], TAKEOFF)
    assert called == "true|serve"
    assert "asks for no keys; set UNISONO_API_KEYS" in told
    _, told = run(tmp_path, ["serve"], {**TAKEOFF, "UNISONO_LOG_FORMAT": "json"})
    assert json.loads(told)["level"] == "warning"


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["serve"], {}),
        (["config"], TAKEOFF),
        (["serve"], {**TAKEOFF, "UNISONO_API_KEYS": "keys.toml"}),
        (["serve", "--api-keys", "keys.toml"], TAKEOFF),
        (["serve", "--api-keys=keys.toml"], TAKEOFF),
        (["serve", "--no-allow-anonymous"], TAKEOFF),
        (["serve", "--config", "a.toml"], TAKEOFF),
    ],
)
def test_whoever_says_who_may_ask_is_heard(
    arguments: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    assert run(tmp_path, arguments, environ) == (f"|{' '.join(arguments)}", "")


def test_own_word_goes_before_that_of_the_variables(tmp_path: Path) -> None:
    environ = {**TAKEOFF, "UNISONO_ALLOW_ANONYMOUS": "false"}
    assert run(tmp_path, ["serve"], environ) == ("false|serve", "")
