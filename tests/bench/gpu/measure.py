"""Measures one part in a process of its own: `python -m tests.bench.gpu.measure KIND JSON FILE`.

JSON: what the part is called with; "dry": on a card that is played, see dry.py. FILE gets the
result, or {"reason": ...} where it cannot be had; while a part goes on, what it has so far. Another
process can read it whenever this one ends.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.gpu.packages import borrow

Save = Callable[[Any], None]


def main(kind: str, told: dict[str, Any], save: Save = lambda result: None) -> Any:
    """Measure, and return a result that msgspec can write. save: told what there is so far."""
    if not told.pop("dry", False) or kind != "steps":
        return _measure(kind, told, save)
    from tests.bench.gpu.dry import played_card

    with played_card():
        return _measure(kind, told, save)


def _measure(kind: str, told: dict[str, Any], save: Save) -> Any:
    if kind == "device":
        from tests.bench.gpu.device import measure_device

        return measure_device(**told)
    if kind == "kernels":
        from tests.bench.gpu.kernels import measure_kernels

        return measure_kernels(**told)
    if kind == "steps":
        from tests.bench.gpu.steps import measure_steps

        points = told.pop("model"), told.pop("batches"), told.pop("prompts")
        return measure_steps(*points, save=save, **told)
    if kind == "peer":
        from tests.bench.gpu.peer import measure_peer

        return measure_peer(**told, save=save)
    if kind == "sums":
        from tests.bench.gpu.sums import measure_sums

        return measure_sums(**told)
    if kind == "shared":
        from tests.bench.gpu.shared_card import measure_shared

        return measure_shared(**told)
    from tests.bench.gpu.served import measure_served

    return measure_served(**told)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    borrow()
    import msgspec

    _, kind, told, file = sys.argv

    def write(result: Any) -> None:
        """Whoever reads it meanwhile sees this or what was there before."""
        beside = Path(f"{file}.new")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
        os.replace(beside, file)

    try:
        result = main(kind, msgspec.json.decode(told, type=dict[str, Any]), write)
    except Exception as error:
        import traceback

        traceback.print_exc()
        result = {"reason": _reason(error)}
    write(result)
