"""The linear kernel of GPUs for weights in few bits. Chooses who multiplies by the shape alone."""

from collections.abc import Hashable, Sequence
from functools import cache

import torch
import triton
from torch import Tensor

from backend.linear.kernel import LinearKernel
from backend.linear.triton import few_rows, many_rows
from backend.linear.triton.columns import take_columns
from backend.linear.triton.decode import constants_of, places_args
from backend.linear.triton.experts import PlaneGroups
from backend.linear.triton.look_up import look_up
from backend.linear.triton.repack import PackedPlanes, repack
from backend.quant.planes import GROUP, PLANES
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat

# Programs that a multiprocessor should have to read as fast as memory gives, and columns below
# which a piece is not worth its sums' way through memory.
_PROGRAMS, _LEAST_PIECE = 4, 512
_SUM_BLOCK = 1024


class TritonKernel(LinearKernel[QuantizedWeight, PackedPlanes]):
    """Multiplies by weights of one format, in planes; activations in any dtype of floats."""

    embeds = True

    def __init__(self, weight_format: WeightFormat, dtype: torch.dtype, device: torch.device):
        self._planes = PLANES[weight_format]
        self._constants = constants_of(self._planes)
        self._dtype, self._device = dtype, device

    def pack(self, weight: QuantizedWeight) -> PackedPlanes:
        return repack(weight, self._device)

    def size_bytes(self, packed: PackedPlanes) -> int:
        return packed.data.nbytes

    def apply(self, x: Tensor, packed: PackedPlanes, bias: Tensor | None) -> Tensor:
        out = x.new_empty(len(x), packed.num_features)
        self.apply_into(x, packed, bias, out)
        return out

    def apply_into(self, x: Tensor, packed: PackedPlanes, bias: Tensor | None, out: Tensor) -> None:
        x = x if x.stride(1) == 1 else x.contiguous()
        if not out.numel():
            return
        pieces = _num_pieces(len(x), packed.num_features, packed.width, x.device)
        if pieces == 1:
            self._multiply(x, packed, bias, out, pieces)
            return
        shape = (pieces, *out.shape)
        parts = torch.empty(shape, dtype=torch.float32, device=x.device)
        self._multiply(x, packed, None, parts, pieces)
        few_rows.add_pieces[(len(x), triton.cdiv(packed.num_features, _SUM_BLOCK))](
            parts,
            x if bias is None else bias,
            out,
            out.stride(0),
            packed.num_features,
            pieces,
            parts.stride(0),
            HAS_BIAS=bias is not None,
            BLOCK=_SUM_BLOCK,
        )

    def logits(self, x: Tensor, packed: PackedPlanes) -> Tensor:
        out = torch.empty(len(x), packed.num_features, dtype=torch.float32, device=x.device)
        self.apply_into(x, packed, None, out)
        return out

    def take_columns(self, x: Tensor, order: Tensor, ends: Tensor | None = None) -> Tensor:
        return take_columns(x, order, ends)

    def embed(self, packed: PackedPlanes, ids: Tensor) -> Tensor:
        return look_up(packed, self._planes, ids, self._dtype)

    @property
    def groups_on_device(self) -> bool:
        return True

    def layout_of(self, packed: PackedPlanes) -> Hashable:
        return packed.places

    def grouped(
        self, weights: Sequence[PackedPlanes], biases: Sequence[Tensor] | None = None
    ) -> PlaneGroups:
        return PlaneGroups(self, self._planes, weights, biases)

    def _multiply(
        self, x: Tensor, packed: PackedPlanes, bias: Tensor | None, out: Tensor, pieces: int
    ) -> None:
        """Launch over so many pieces of the columns. out: [M, N], or [pieces, M, N]."""
        n = packed.num_features
        shared = {
            "x": x,
            "data": packed.data,
            "bias": x if bias is None else bias,
            "out": out,
            "x_stride": x.stride(0),
            "out_stride": out.stride(-2),
            "part_stride": out.stride(0) if pieces > 1 else 0,
            "piece_groups": _piece_groups(packed.width, pieces),
            "HAS_BIAS": bias is not None,
            **places_args(packed),
            **self._constants,
        }
        if len(x) <= few_rows.MAX_ROWS:
            few_rows.multiply_few_rows[(triton.cdiv(n, few_rows.FEATURES), pieces)](
                **shared,
                ROWS=len(x),
                FEATURES=few_rows.FEATURES,
                STEP_WORDS=few_rows.STEP_WORDS,
            )
            return
        rows = many_rows.tile_rows(len(x))
        grid = (triton.cdiv(len(x), rows), triton.cdiv(n, many_rows.FEATURES), pieces)
        many_rows.multiply_many_rows[grid](
            **shared,
            num_rows=len(x),
            FEATURES=many_rows.FEATURES,
            STEP_WORDS=many_rows.step_words(rows),
            ROWS=rows,
        )


def _num_pieces(num_rows: int, n: int, k: int, device: torch.device) -> int:
    """Return into how many pieces the columns are cut, so that all multiprocessors read."""
    if num_rows <= few_rows.MAX_ROWS:
        programs = triton.cdiv(n, few_rows.FEATURES)
    else:
        tiles = triton.cdiv(num_rows, many_rows.tile_rows(num_rows))
        programs = triton.cdiv(n, many_rows.FEATURES) * tiles
    wanted = _PROGRAMS * _multiprocessors(device) // programs
    return int(max(1, min(wanted, k // _LEAST_PIECE)))


def _piece_groups(k: int, pieces: int) -> int:
    """Return how many groups a piece has: whole blocks of k-quants."""
    unit = 256 // GROUP
    groups = triton.cdiv(k // GROUP, pieces)
    return int(triton.cdiv(groups, unit)) * unit


@cache
def _multiprocessors(device: torch.device) -> int:
    """How many a GPU has; in the interpreter, four for tests."""
    if device.type != "cuda":
        return 4
    return torch.cuda.get_device_properties(device).multi_processor_count
