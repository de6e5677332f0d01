"""What plans are made from where nobody calibrated: `python -m tests.bench.level_rates`.

One thread multiplies by weights that stay in its caches, at every level of this processor, as
backend/measurement/products.py does for the best one. The table's numbers stand in
gateway/planning/devices.py, operations/s of 64 rows and the parts of that fewer rows reach; levels
that this processor lacks are of an earlier one.
"""

import torch

from backend import native
from backend.linear.native import NativeKernel
from backend.measurement import products
from backend.native.level import Activations
from backend.quant.weight_format import WeightFormat
from gateway.bench.machine import machine_name

SHOWN_ROWS = (1, 4, 16, 64)
KINDS: tuple[tuple[str, WeightFormat, Activations], ...] = (
    ("int16", WeightFormat.Q4_K, "int16"),
    ("mixed", WeightFormat.Q4_K, "mixed"),
    ("int8", WeightFormat.Q4_K, "int8"),
    ("bf16", WeightFormat.DENSE, "int16"),
)
FEATURES = 192
ROUNDS = 3


def main() -> None:
    """Print a line for each level and arithmetic; levels take turns."""
    native.set_num_threads(1)
    best: dict[tuple[str, str], dict[int, float]] = {}
    for _ in range(ROUNDS):
        for level in native.levels():
            native.kernels.use(level)
            for name, weight_format, activations in KINDS:
                weight = products.random_weight(weight_format, FEATURES)
                kernel = NativeKernel(weight_format, activations)
                found = products.speeds_of(kernel, weight, torch.bfloat16, SHOWN_ROWS)
                known = best.setdefault((level, name), found)
                best[level, name] = {rows: max(known[rows], found[rows]) for rows in found}
    print(f"{machine_name()}\n")
    print("| level | arithmetic | G operations/s, 64 rows | parts of it with 1, 4, 16 rows |")
    print("|---|---|---|---|")
    for (level, name), speeds in best.items():
        parts = ", ".join(f"{speeds[rows] / speeds[64]:.2f}" for rows in SHOWN_ROWS[:-1])
        print(f"| {level} | {name} | {speeds[64] / 1e9:.0f} | {parts} |")


if __name__ == "__main__":
    main()
