"""Which level of the kernels serves, and what it makes of activations.

A level is named after the instructions it needs. Knows what the operator asked for and what this
processor has; no settings, no tensors. Called by engine/platform.py and by `unisono config`.
"""

from collections.abc import Sequence
from typing import Literal

Activations = Literal["mixed", "int8", "int16", "bf16"]

LEVELS = ("amx", "avx512_bf16", "avx512_vnni", "avx512", "avx_vnni", "avx2", "portable")
"""All of them, best first."""

BF16_LEVELS = frozenset({"amx", "avx512_bf16"})
"""Those that multiply bf16 by bf16."""


def choose_level(wanted: str, present: Sequence[str]) -> str:
    """Return the level that `--kernels wanted` means.

    present: the levels that this processor has, best first. Raises ValueError, three lines.
    """
    level = present[0] if wanted in ("auto", "native") else wanted
    if level not in present:
        raise ValueError(
            f"--kernels {wanted}: this processor has no such level\n"
            f"it has {', '.join(present)}\n"
            "name one of them, or leave --kernels out: the best serves"
        )
    return level


def choose_activations(wanted: Activations | Literal["auto"], level: str) -> Activations:
    """Return what `--activations wanted` means at a level. Raises ValueError, three lines."""
    if wanted == "bf16" and level not in BF16_LEVELS:
        raise ValueError(
            f"--activations bf16: level {level} does not multiply bf16\n"
            f"{' and '.join(name for name in LEVELS if name in BF16_LEVELS)} do\n"
            "take mixed, int8 or int16, or leave --activations out"
        )
    return "mixed" if wanted == "auto" else wanted


def describe(
    wanted: str,
    activations: Activations | Literal["auto"],
    dtype: str,
    present: Sequence[str],
    absence: str,
) -> str:
    """Say in a few words what computes on a CPU, and if it is not the processor's best, why.

    wanted, activations, dtype: what the settings say. present: as for choose_level(). absence: why
    there is none. Raises ValueError for what is not to be had.
    """
    if wanted == "torch":
        return "PyTorch's kernels (--kernels torch)"
    if not present:
        return f"PyTorch's kernels ({absence.splitlines()[0]})"
    if dtype not in ("auto", "bfloat16"):
        return f"PyTorch's kernels (--dtype {dtype}; ours take bfloat16)"
    level = choose_level(wanted, present)
    best = "" if level == present[0] else f" (--kernels; this processor has {present[0]})"
    return f"{level}{best}, {choose_activations(activations, level)} activations"
