"""What a GPU does: `make bench-gpu PYTHON=...`, or `python -m tests.bench.gpu [--out DIRECTORY]`.

One interpreter with PyTorch >= 2.11 for CUDA, no network, no files of models. Parts of less than
eight minutes each; those that have a result in --out are not measured again, so a run that was cut
off goes on where it was. At the end (and after each part) DIRECTORY has all as JSON and as a table.

--dry runs every part on the CPU, tiny and in Triton's interpreter: it finds slips, and measures
nothing.

Exit status: 0, everything was measured; 1, some part was not, and its line says why; 2, no card.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.gpu.packages import (
    NEEDED,
    ROOT,
    borrow,
    environment,
    missing,
    name_ourselves,
)
from tests.bench.gpu.parts import LIMIT_S, Part, all_parts, played_parts
from tests.bench.gpu.tables import table

LEAST_TORCH = (2, 11)
# Measures a part, told where the results before it are.
Measure = Callable[[Part, dict[str, dict[str, Any]]], dict[str, Any]]


def main(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    args = _arguments(arguments)
    borrow()
    if obstacle := what_hinders(needs_card=not args.dry):
        print(f"bench-gpu: {obstacle}", file=sys.stderr)
        return 2
    out = Path(args.out)
    name_ourselves(out / "installed")
    every = dry_parts(out) if args.dry else all_parts(num_cards=_num_cards())
    known = [part.name for part in every]
    for name in args.parts or ():
        if name not in known:
            print(f"bench-gpu: no part {name}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    parts = [part for part in every if not args.parts or part.name in args.parts]
    return run_parts(parts, out, measure_apart, again=args.again)


def dry_parts(out: Path) -> list[Part]:
    """Return the parts, tiny and for the CPU. out: where their shapes are written."""
    from tests.bench.gpu.dry import BATCHES, FP8, PROMPTS, write_shape

    model = write_shape(out / "shape")
    in_fp8 = write_shape(out / "shape-fp8", quantization_config=FP8)
    return played_parts(all_parts((model,), BATCHES, PROMPTS, "cpu", 2, in_fp8))


def _num_cards() -> int:
    import torch

    return torch.cuda.device_count()


def what_hinders(*, needs_card: bool = True) -> str:
    """Return in one line why nothing can be measured; empty if something can."""
    if lacking := missing(NEEDED):
        return f"{sys.executable} lacks {', '.join(lacking)}, and no .venv of its Python has them"
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < LEAST_TORCH:
        return f"PyTorch {torch.__version__} is too old, 2.11 is the oldest"
    if needs_card and not torch.cuda.is_available():
        build = f"is for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
        return (
            f"no card: PyTorch {torch.__version__} ({build}) sees no CUDA device; nothing measured"
        )
    return ""


def run_parts(parts: Sequence[Part], out: Path, measure: Measure, *, again: bool = False) -> int:
    """Measure what has no result yet; return 1 if anything has none in the end."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "gpu.json"
    results = _read(file)
    for part in parts:
        if not again and "reason" not in results.get(part.name, {"reason": ""}):
            print(f"{part.name}: measured before", flush=True)
            continue
        started = time.monotonic()
        print(f"{part.name} ...", flush=True)
        results[part.name] = measure(part, results)
        _write(file, json.dumps(results, indent=1) + "\n")
        _write(out / "gpu.md", _table(results))
        reason = results[part.name].get("reason")
        told = f"not measured: {reason}" if reason else "measured"
        print(f"{part.name}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
    print(_table(results))
    return int(any("reason" in results[part.name] for part in parts))


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured before; what cannot be read is put aside, and measured again."""
    if not file.exists():
        return {}
    try:
        results: dict[str, dict[str, Any]] = json.loads(file.read_text())
        return results
    except ValueError:
        file.rename(file.with_suffix(".damaged"))
        print(f"{file}: cannot be read, and is put aside", file=sys.stderr)
        return {}


def _write(file: Path, text: str) -> None:
    """Write a file as a whole, so that a run that is cut off leaves what was there."""
    beside = file.with_name(file.name + ".new")
    beside.write_text(text)
    beside.replace(file)


def _table(results: dict[str, dict[str, Any]]) -> str:
    """Return the table. The figures are kept as JSON, whatever it makes of them."""
    try:
        return table(results)
    except Exception as error:
        return f"The table cannot be made: {type(error).__name__}: {error}\n"


def measure_apart(
    part: Part, results: dict[str, dict[str, Any]], limit_s: float = LIMIT_S
) -> dict[str, Any]:
    """Measure a part in a process of its own, which is ended when it takes too long; what it had by
    then is kept, with the reason, and the part is measured again by the next run."""
    if lacking := missing(part.needs):
        return {"reason": f"needs {', '.join(lacking)}"}
    told = dict(part.told)
    if part.kind == "steps":
        told["bytes_s"] = results.get("device", {}).get("bytes_s", 0.0)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "result.json"
        command = [
            sys.executable, "-m", "tests.bench.gpu.measure", part.kind, json.dumps(told), str(file)
        ]  # fmt: skip
        env = environment() | ({"TRITON_INTERPRET": "1"} if told.get("dry") else {})
        # A session of its own, so that what it started (a server) ends with it.
        process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True)
        reason = ""
        try:
            if process.wait(limit_s):
                reason = f"its process ended with status {process.returncode}, see above"
        except subprocess.TimeoutExpired:
            reason = f"took more than {limit_s:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if reason:
            result.setdefault("reason", reason)
        return result or {"reason": "it gave no result"}


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.gpu", description=__doc__)
    parser.add_argument("--out", default="bench-gpu", help="directory of the results")
    parser.add_argument("--again", action="store_true", help="measure what was measured, too")
    parser.add_argument("--dry", action="store_true", help="try all on the CPU, measuring nothing")
    parser.add_argument("--parts", nargs="*", metavar="NAME", help="these alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
