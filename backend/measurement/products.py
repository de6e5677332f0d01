"""How fast weights are read and multiplied by: by their format, what activations become, and rows.

Multiplying alone is measured with weights that stay in the caches, less what a call of a kernel
takes; reading with a row of activations and weights of 8 bits that do not stay there. A product
whose weights must come from memory takes about sqrt(multiplying^2 + reading^2): each waits for the
other a little. Measured with 64 and 256 MB of weights in five formats on a two-core Xeon, that was
within 10 % of what 1, 4 and 16 rows took.

Threads that share a product out meet in it twice, and end at different times. On two cores of a
Zen 4 a product of 0.4 million weights took 10 us more than its part of one of 8 million with a row,
and 40 to 200 us with 32 to 256; with one thread no more. That is what threads_meet() measures.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from statistics import median
from typing import Any

import torch
from torch import Tensor

from backend import native
from backend.linear.kernel import LinearKernel
from backend.linear.native import NativeKernel, PackedBlocks
from backend.linear.onednn import OneDnnKernel
from backend.measurement.timing import seconds_of, seconds_of_each
from backend.native.calls import Gemm
from backend.native.level import Activations
from backend.placement.device_profile import ByRows, MultiplyRate
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat

ROWS = (1, 2, 4, 8, 16, 32, 64, 256)
# What a step's weights may be: of a cache that cores share, of a large one, of no cache.
READ_BYTES = (64 << 20, 96 << 20, 128 << 20, 256 << 20, 1 << 30)
# What others leave in a cache between two steps: keys and values, a gateway's and a client's data.
# Without it 62 MB were read at 47 GB/s, where a server's steps read 96 MB at 24 to 28.
BETWEEN_BYTES = 16 << 20
FORMATS = (
    WeightFormat.Q4_1,
    WeightFormat.Q4_K,
    WeightFormat.Q5_0,
    WeightFormat.Q6_K,
    WeightFormat.Q8_0,
    WeightFormat.DENSE,
)
# A row is multiplied by it two to three times as fast as it is read: so little is to be subtracted.
READ_FORMAT = WeightFormat.Q8_0
READ_FEATURES = 8192
# What serves for a format that was not measured.
USUAL_FORMAT = WeightFormat.Q4_K
# A core's share of a weight: in few bits it stays in the core's second cache, in any in the third.
FEATURES_A_THREAD, WIDTH = 768, 1024
PASSES = 4
# A product of so many has next to no arithmetic, and one thread.
FEW_FEATURES = 32
# What one thread does alone is measured with these weights, and what threads take to meet.
SHARED_FORMAT = WeightFormat.Q4_1
# Of a small model and of a large one; what they are in all is more than caches hold.
SMALL_FEATURES, LARGE_FEATURES = 512, 8192
MEETING_ROWS = (1, 4, 16, 64, 256)
MEETING_BYTES = 64 << 20
# The middle of so many rounds: where a thread finds itself on a core differs from one to the next,
# and a server meets what is usual.
MEETING_ROUNDS = 5
# Of many rows a few weights take long enough, and do not wait for memory.
MANY_ROWS, FEW_WEIGHTS = 32, 16
# Some seconds apart: what others did to one of them they seldom did to the other.
ROUNDS = 2

Kernel = LinearKernel[Any, Any]
# Operations/s by rows.
Speeds = dict[int, float]
# Arithmetic, or arithmetic and format, as DeviceProfile has it.
Rates = dict[str, MultiplyRate]


def native_rates(threads: int, report: Callable[[str], None]) -> Rates:
    """Measure our own kernels at the level that is in use, with so many threads."""
    native.set_num_threads(threads)
    best: dict[str, Speeds] = defaultdict(dict)
    for round_ in range(ROUNDS):
        for weight_format in FORMATS:
            if round_ == 0:
                report(f"how fast weights of {weight_format.value} are multiplied by")
            weight = random_weight(weight_format, FEATURES_A_THREAD * threads)
            is_dense = weight_format is WeightFormat.DENSE
            kinds: tuple[Activations, ...] = ("int16",) if is_dense else ("mixed", "int16", "int8")
            for activations in kinds:
                kernel = NativeKernel(weight_format, activations)
                fastest = best[f"{activations}:{weight_format.value}"]
                for rows, speed in speeds_of(kernel, weight, torch.bfloat16).items():
                    fastest[rows] = max(speed, fastest.get(rows, 0.0))
    rates = {name: _as_rate(speeds) for name, speeds in best.items()}
    # Dense weights are multiplied as they are, whatever else is asked for.
    dense = rates["int16:dense"]
    usual = {name: rates[f"{name}:{USUAL_FORMAT.value}"] for name in ("mixed", "int16", "int8")}
    return rates | {"mixed:dense": dense, "int8:dense": dense, "bf16": dense} | usual


def thread_shares(threads: int, rates: Rates) -> ByRows:
    """Return what part of the rates of so many threads one of them makes while the others rest."""
    rate = rates[f"mixed:{SHARED_FORMAT.value}"]
    weight = random_weight(SHARED_FORMAT, FEATURES_A_THREAD)
    kernel = NativeKernel(SHARED_FORMAT, "mixed")
    native.set_num_threads(1)
    rounds = [speeds_of(kernel, weight, torch.bfloat16) for _ in range(ROUNDS)]
    fastest = {rows: max(speeds[rows] for speeds in rounds) for rows in ROWS}
    # At most all of it, and at least its share of the threads: what is beyond was measured badly.
    return tuple(
        (rows, min(1.0, max(1 / threads, speed / rate.at(rows)))) for rows, speed in fastest.items()
    )


def threads_meet(threads: int) -> ByRows:
    """Return the seconds that so many threads take to meet in a product, by rows: what a small one
    takes beyond its part of a large one."""
    native.set_num_threads(threads)
    kernel = NativeKernel(SHARED_FORMAT, "mixed")
    small, large = (_copies(kernel, n, MEETING_BYTES) for n in (SMALL_FEATURES, LARGE_FEATURES))
    share = SMALL_FEATURES / LARGE_FEATURES
    found = {}
    # The most rows first: by then no thread sleeps, and each has found a core.
    for rows in reversed(MEETING_ROWS):
        x = _random_rows(rows)
        sets = [weights[: None if rows < MANY_ROWS else FEW_WEIGHTS] for weights in (small, large)]
        passes = [_pass(kernel, weights, x) for weights in sets]
        beyond = []
        for _ in range(MEETING_ROUNDS):
            taken = zip(sets, seconds_of_each(passes, 0.04), strict=True)
            small_s, large_s = (pass_s / len(weights) for weights, pass_s in taken)
            beyond.append((small_s - share * large_s) / (1 - share))
        found[rows] = max(0.0, median(beyond))
    return tuple((rows, found[rows]) for rows in MEETING_ROWS)


def torch_rate(dtype: torch.dtype, device: torch.device, threads: int) -> MultiplyRate:
    """Measure PyTorch's kernels, whose weights are dense, on a CPU or a GPU."""
    weight = torch.randn(FEATURES_A_THREAD * threads, WIDTH, device=device).to(dtype)
    return _as_rate(speeds_of(OneDnnKernel(dtype, device), weight, dtype))


def native_reads(
    threads: int, rate: MultiplyRate, sizes: Sequence[int] = READ_BYTES
) -> Iterator[tuple[int, float]]:
    """Yield (bytes, bytes/s) of reading weights of so many bytes in turn with so many threads.

    rate: of READ_FORMAT with as many threads: what of a product is not reading.
    """
    native.set_num_threads(threads)
    kernel = NativeKernel(READ_FORMAT, "int16")
    copies = _copies(kernel, READ_FEATURES, max(sizes), READ_FORMAT)
    num_values = READ_FEATURES * WIDTH
    x = torch.randn(1, WIDTH).bfloat16()
    between = torch.ones(BETWEEN_BYTES // 4)
    for size in sizes:
        part = copies[: size // copies[0].data.nbytes]
        # Small sizes take little time, which one slice of another program could fill.
        taken_s = seconds_of(_pass(kernel, part, x), 0.3, least=4, before=between.sum)
        size_bytes = sum(weight.data.nbytes for weight in part)
        multiplying_s = 2 * num_values * len(part) / rate.at(1)
        yield size_bytes, size_bytes / sqrt(max(taken_s**2 - multiplying_s**2, taken_s**2 / 4))


def torch_reads(threads: int, sizes: Sequence[int]) -> tuple[tuple[int, float], ...]:
    """Return (bytes, bytes/s) of what PyTorch reads of so many bytes with so many threads."""
    torch.set_num_threads(threads)
    buffer = torch.ones(max(sizes) // 4)
    return tuple((size, size / seconds_of(buffer[: size // 4].sum)) for size in sizes)


def speeds_of(
    kernel: Kernel,
    weight: Tensor | QuantizedWeight,
    dtype: torch.dtype,
    numbers: Sequence[int] = ROWS,
) -> Speeds:
    """Measure one weight, over and over, with each number of rows."""
    features, width = weight.shape
    packed = [kernel.pack(weight)] * PASSES
    device = weight.device if isinstance(weight, Tensor) else torch.device("cpu")
    called_s = 0.0 if device.type == "cuda" else _called_s(kernel, weight, dtype)
    speeds = {}
    # The most rows first: by then no thread sleeps, and each has found a core.
    for rows in reversed(numbers):
        x = _random_rows(rows).to(device, dtype)
        taken_s = seconds_of(_pass(kernel, packed, x), budget_s=0.04, least=8)
        seconds = max(taken_s - PASSES * called_s, taken_s / 2)
        speeds[rows] = 2 * rows * features * width * PASSES / seconds
    return {rows: speeds[rows] for rows in numbers}


def _called_s(kernel: Kernel, like: Tensor | QuantizedWeight, dtype: torch.dtype) -> float:
    """Return the seconds of a product beside its arithmetic: of one that has next to none, by a
    weight that is stored alike."""
    weight_format = WeightFormat.DENSE if isinstance(like, Tensor) else like.format
    weight = random_weight(weight_format, FEW_FEATURES)
    if isinstance(weight, Tensor):
        weight = weight.to(dtype)
    x = _random_rows(1).to(dtype)
    call = _pass(kernel, [kernel.pack(weight)] * PASSES, x)
    # Too much would be taken off every rate: the least of some looks.
    return min(seconds_of(call, 0.002) for _ in range(ROUNDS + 1)) / PASSES


def _random_rows(rows: int) -> Tensor:
    """Return activations, [rows, WIDTH] in bf16."""
    x = torch.randn(rows, WIDTH)
    # Of a model's groups of 32 about one in eight is so large that mixed has more bits of it.
    x.view(rows, -1, 8, 32)[:, :, 0] *= 3
    return x.bfloat16()


def _copies(
    kernel: NativeKernel, features: int, size: int, weight_format: WeightFormat = SHARED_FORMAT
) -> list[PackedBlocks]:
    """Return copies of a weight that are so many bytes together, one at least."""
    first = kernel.pack(random_weight(weight_format, features))
    count = max(1, size // first.data.nbytes)
    return [first, *(_at(first, first.data.clone()) for _ in range(count - 1))]


def _as_rate(speeds: Speeds) -> MultiplyRate:
    peak = max(speeds.values())
    return MultiplyRate(peak, tuple((rows, speed / peak) for rows, speed in speeds.items()))


def _pass(kernel: Kernel, weights: Sequence[Any], x: Tensor) -> Callable[[], None]:
    """Return what multiplies by all weights and waits for it."""

    def multiply() -> None:
        for weight in weights:
            kernel.apply(x, weight, None)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    return multiply


def random_weight(weight_format: WeightFormat, features: int) -> Tensor | QuantizedWeight:
    if weight_format is WeightFormat.DENSE:
        return torch.randn(features, WIDTH).bfloat16()
    row_bytes = WIDTH // weight_format.block_size * weight_format.block_bytes
    # Scales of such bytes are small numbers.
    blocks = torch.randint(0, 30, (features, row_bytes), dtype=torch.uint8)
    return QuantizedWeight(weight_format, blocks.numpy())


def _at(packed: PackedBlocks, data: Tensor) -> PackedBlocks:
    """Return the same weight somewhere else: packing each anew takes longer than measuring."""
    gemm = Gemm.from_buffer_copy(packed.gemm)
    gemm.packed = data.data_ptr()
    return PackedBlocks(data, packed.num_features, packed.missing, gemm)
