"""What the peers did where they were measured with care: the figures ours are held against.

Two virtual cores of a Xeon with AMX (bf16 and int8 tiles), 24 GiB, 2026-11-22,
SmolLM2-135M-Instruct, two rounds, medians. That machine multiplies bf16 matrices twice as fast as
one without tiles. llama.cpp in a build for AMX, its best case; vLLM with tcmalloc and libiomp5.
"""

from dataclasses import dataclass

MACHINE = "two cores of a Xeon with AMX, 2026-11-22"
# A peer's own run counts from this share of its recorded figure on.
COUNTS_FROM = 0.9


@dataclass(frozen=True, slots=True)
class Figure:
    """Output tokens/s, and the median time to the first token where it was recorded."""

    tokens_per_s: float
    ttft_ms: float = float("nan")


# load -> server -> streams -> figure
RECORDED: dict[str, dict[str, dict[int, Figure]]] = {
    "a": {
        "llama.cpp": {
            1: Figure(163, 104),
            4: Figure(241, 397),
            16: Figure(327, 1357),
            64: Figure(327, 1857),
        },
        "vLLM": {
            1: Figure(35, 60),
            4: Figure(127, 158),
            16: Figure(406, 385),
            64: Figure(824, 780),
        },
    },
    "b": {
        "llama.cpp": {1: Figure(180), 4: Figure(196), 16: Figure(333), 64: Figure(395)},
        "vLLM": {1: Figure(31), 4: Figure(103), 16: Figure(242), 64: Figure(355)},
    },
}
