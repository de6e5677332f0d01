"""What weights take in each format: the whole model, and the fullest of so many ranks."""

import msgspec

from backend.config.errors import ModelError
from backend.placement.footprint import Footprint, StoredWeights, mlp_unit
from backend.placement.memory import DTYPE_BYTES
from backend.placement.served_model import ServedModel
from backend.placement.sharding import Shard, split_model
from backend.quant.kept_weights import BlockColumns, KeptWeights, KernelKind, Quantization
from backend.quant.weight_format import WeightFormat
from gateway.planning.models import FoundModel

_BOTH = "CPU, GPU"


class WeightRow(msgspec.Struct, frozen=True):
    """A format. model_bytes: all weights, counted once. rank_bytes: by ranks, of the fullest one.

    serves_on: where this server multiplies by it as it is: "CPU, GPU" or "CPU".
    """

    format: str
    note: str
    model_bytes: int
    rank_bytes: dict[int, int]
    serves_on: str


class _Format(msgspec.Struct, frozen=True):
    name: str
    note: str
    dtype: str
    quantization: Quantization
    kernels: KernelKind
    serves_on: str


_FORMATS = (
    _Format("fp32", "", "float32", "none", "torch", "CPU, GPU"),
    _Format("bf16, fp16", "", "bfloat16", "none", "torch", "CPU, GPU"),
    _Format("int8", "Q8_0: 8.5 bits a weight", "bfloat16", "int8", "native", _BOTH),
    _Format("int4", "Q4_1: 5 bits a weight", "bfloat16", "int4", "native", _BOTH),
)
_AS_STORED = _Format("as stored", "", "bfloat16", "auto", "native", _BOTH)
_FP8 = _Format("as stored", "", "bfloat16", "auto", "triton", "GPU")


class _Dense:
    """Weights before they are rounded: all dense."""

    def weight_format(self, name: str, cols: slice = slice(None)) -> WeightFormat:
        return WeightFormat.DENSE

    def stored_type(self, name: str) -> str:
        return "BF16"

    def block_columns(self, name: str, cols: slice = slice(None)) -> BlockColumns:
        return BlockColumns()


def weight_rows(found: FoundModel, model: ServedModel, ranks: tuple[int, ...]) -> list[WeightRow]:
    """Return what each format takes with each number of ranks that the model can be cut for."""
    rows = [_row(found, _Dense(), each, ranks) for each in _FORMATS]
    if _is_packed(found):
        note = found.config.stored_dtype
        wanted = _FP8 if "fp8" in note else _AS_STORED
        stored = msgspec.structs.replace(wanted, note=note)
        rows.append(_row(found, found.stored, stored, ranks))
    return rows


def _is_packed(found: FoundModel) -> bool:
    return found.config.stored_dtype not in DTYPE_BYTES


def _row(
    found: FoundModel, stored: StoredWeights, wanted: _Format, ranks: tuple[int, ...]
) -> WeightRow:
    kept = KeptWeights(wanted.quantization, wanted.kernels, DTYPE_BYTES[wanted.dtype])
    by_ranks = {}
    for tp in ranks:
        try:
            shards = split_model(
                found.config, tp, mlp_unit(stored, found.stored.kinds(found.config))
            )
        except ModelError:
            continue
        # Ranks whose shares are as large keep as much.
        sizes = {_size(shard): shard for shard in shards}
        by_ranks[tp] = max(
            _total(found, stored, shard, kept, wanted.dtype) for shard in sizes.values()
        )
    whole = _once(found, stored, kept, wanted)
    return WeightRow(wanted.name, wanted.note, whole, by_ranks, wanted.serves_on)


def _once(found: FoundModel, stored: StoredWeights, kept: KeptWeights, wanted: _Format) -> int:
    if kept.is_dense:
        return found.num_parameters * DTYPE_BYTES[wanted.dtype]
    (shard,) = split_model(found.config, 1)
    return _total(found, stored, shard, kept, wanted.dtype)


def _total(
    found: FoundModel, stored: StoredWeights, shard: Shard, kept: KeptWeights, dtype: str
) -> int:
    kinds = found.stored.kinds(found.config)
    return sum(Footprint(stored, found.config, shard, kept, dtype, kinds=kinds).total)


def _size(shard: Shard) -> tuple[int, ...]:
    parts = (shard.heads, shard.kv_heads, shard.intermediate, shard.vocab)
    return tuple(part.stop - part.start for part in parts)
