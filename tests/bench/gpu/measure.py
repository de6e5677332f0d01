"""Measures one part in a process of its own: `python -m tests.bench.gpu.measure KIND JSON FILE`.

JSON: what the part is called with. FILE gets the result, or {"reason": ...} where it cannot be had;
another process can read it whenever this one ends.
"""

import sys
from pathlib import Path
from typing import Any

from tests.bench.gpu.packages import borrow


def main(kind: str, told: dict[str, Any]) -> Any:
    """Measure, and return a result that msgspec can write."""
    if kind == "device":
        from tests.bench.gpu.device import measure_device

        return measure_device()
    if kind == "kernels":
        from tests.bench.gpu.kernels import measure_kernels

        return measure_kernels(**told)
    if kind == "steps":
        from tests.bench.gpu.steps import measure_steps

        return measure_steps(told.pop("model"), told.pop("batches"), told.pop("prompts"), **told)
    if kind == "peer":
        from tests.bench.gpu.peer import measure_peer

        return measure_peer(**told)
    from tests.bench.gpu.served import measure_served

    return measure_served(**told)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    borrow()
    import msgspec

    _, kind, told, file = sys.argv
    try:
        result = main(kind, msgspec.json.decode(told, type=dict[str, Any]))
    except Exception as error:
        import traceback

        traceback.print_exc()
        result = {"reason": _reason(error)}
    Path(file).write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
