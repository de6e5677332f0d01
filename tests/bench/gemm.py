"""The linears of one model at every level: `python -m tests.bench.gemm`.

For each number of rows and each kind of activations, all weights of a step without the head are
multiplied once, one after the other, so that they come from memory; levels take turns, and the
median over the rounds is printed, with the multiply-adds a second that it makes.
"""

import argparse
import statistics
import time
from collections import defaultdict

import torch
from torch import Tensor

from backend import native
from backend.linear.native import NativeKernel, PackedBlocks
from backend.native.level import BF16_LEVELS, Activations
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat

# SmolLM2-135M: q, k and v; o; gate and up; down. Of each layer, [features, width].
SHAPES = [(960, 576), (576, 576), (3072, 576), (576, 1536)]
NUM_LAYERS = 30

Weights = list[tuple[NativeKernel, PackedBlocks, int]]


def pack_all(weight_format: WeightFormat, activations: Activations) -> Weights:
    """Pack the weights of all layers."""
    kernel = NativeKernel(weight_format, activations)
    packed: Weights = []
    for n, k in SHAPES * NUM_LAYERS:
        blocks = _blocks(weight_format, n, k)
        packed.append((kernel, kernel.pack(QuantizedWeight(weight_format, blocks.numpy())), k))
    return packed


def _blocks(weight_format: WeightFormat, rows: int, width: int) -> Tensor:
    """Return bytes that mean small numbers. Dense ones are normal: what is not slows some down."""
    if weight_format is WeightFormat.DENSE:
        return torch.randn(rows, width).bfloat16().view(torch.uint8)
    row_bytes = width // weight_format.block_size * weight_format.block_bytes
    return torch.randint(0, 30, (rows, row_bytes), dtype=torch.uint8)


def seconds_of(weights: Weights, inputs: dict[int, Tensor]) -> float:
    """Multiply by all of them once."""
    started = time.perf_counter()
    for kernel, packed, width in weights:
        kernel.apply(inputs[width], packed, None)
    return time.perf_counter() - started


def main() -> None:
    """Print a table: one line for each kind of activations and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", default="q4_1", choices=[f.value for f in WeightFormat])
    parser.add_argument("--rows", default="1,4,16,64")
    parser.add_argument("--levels", default=",".join(native.levels()))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    args = parser.parse_args()
    if args.threads:
        native.set_num_threads(args.threads)
    levels = args.levels.split(",")
    size = NUM_LAYERS * sum(n * k for n, k in SHAPES)
    print("| activations, rows |", " | ".join(levels), "|")
    print("|---" * (len(levels) + 1) + "|")
    kinds: tuple[Activations, ...] = ("mixed", "int8", "int16", "bf16")
    for activations in kinds:
        weights = pack_all(WeightFormat(args.format), activations)
        for rows in map(int, args.rows.split(",")):
            inputs = {k: torch.randn(rows, k).bfloat16() for _, k in SHAPES}
            taken: dict[str, list[float]] = defaultdict(list)
            for _ in range(args.rounds):
                for level in levels:
                    if activations != "bf16" or level in BF16_LEVELS:
                        native.kernels.use(level)
                        taken[level].append(seconds_of(weights, inputs))
            medians = {level: statistics.median(times) for level, times in taken.items()}
            cells = [
                f"{1e3 * medians[level]:.1f} ms, {rows * size / medians[level] / 1e9:.0f} G/s"
                if level in medians
                else "-"
                for level in levels
            ]
            print(f"| {activations}, {rows} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
