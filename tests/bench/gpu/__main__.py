"""What a GPU does: `make bench-gpu PYTHON=...`, or `python -m tests.bench.gpu [--out DIRECTORY]`.

One interpreter with PyTorch >= 2.11 for CUDA, no network, no files of models. Parts of less than
eight minutes each; those that have a result in --out are not measured again, so a run that was cut
off goes on where it was. At the end (and after each part) DIRECTORY has all as JSON and as a table.

Exit status: 0, everything was measured; 1, some part was not, and its line says why; 2, no card.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.gpu.packages import NEEDED, ROOT, borrow, environment, missing
from tests.bench.gpu.parts import LIMIT_S, Part, all_parts
from tests.bench.gpu.tables import table

LEAST_TORCH = (2, 11)
# Measures a part, told where the results before it are.
Measure = Callable[[Part, dict[str, dict[str, Any]]], dict[str, Any]]


def main(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    args = _arguments(arguments)
    borrow()
    if obstacle := what_hinders():
        print(f"bench-gpu: {obstacle}", file=sys.stderr)
        return 2
    parts = [part for part in all_parts() if not args.parts or part.name in args.parts]
    return run_parts(parts, Path(args.out), measure_apart, again=args.again)


def what_hinders() -> str:
    """Return in one line why nothing can be measured; empty if something can."""
    if lacking := missing(NEEDED):
        return f"{sys.executable} lacks {', '.join(lacking)}, and no .venv of its Python has them"
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < LEAST_TORCH:
        return f"PyTorch {torch.__version__} is too old, 2.11 is the oldest"
    if not torch.cuda.is_available():
        build = f"is for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
        return (
            f"no card: PyTorch {torch.__version__} ({build}) sees no CUDA device; nothing measured"
        )
    return ""


def run_parts(parts: Sequence[Part], out: Path, measure: Measure, *, again: bool = False) -> int:
    """Measure what has no result yet; return 1 if anything has none in the end."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "gpu.json"
    results: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    for part in parts:
        if not again and "reason" not in results.get(part.name, {"reason": ""}):
            print(f"{part.name}: measured before", flush=True)
            continue
        started = time.monotonic()
        print(f"{part.name} ...", flush=True)
        results[part.name] = measure(part, results)
        file.write_text(json.dumps(results, indent=1) + "\n")
        (out / "gpu.md").write_text(table(results))
        reason = results[part.name].get("reason")
        told = f"not measured: {reason}" if reason else "measured"
        print(f"{part.name}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
    print(table(results))
    return int(any("reason" in results[part.name] for part in parts))


def measure_apart(part: Part, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Measure a part in a process of its own, which is ended when it takes too long."""
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
        try:
            subprocess.run(command, cwd=ROOT, env=environment(), timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return {"reason": f"took more than {LIMIT_S:.0f} s"}
        if not file.exists():
            return {"reason": "its process ended without a result, see above"}
        result: dict[str, Any] = json.loads(file.read_text())
        return result


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.gpu", description=__doc__)
    parser.add_argument("--out", default="bench-gpu", help="directory of the results")
    parser.add_argument("--again", action="store_true", help="measure what was measured, too")
    names = [part.name for part in all_parts()]
    parser.add_argument("--parts", nargs="*", choices=names, help="these alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
