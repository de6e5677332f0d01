"""What a call of a kernel takes: one struct, declared once for both sides.

`python -m backend.native.calls` writes calls.h, a test holds it equal. The interface number is the
hash of these declarations: a build of other ones is refused. Every field of a call has eight bytes,
so both sides lay it out alike.
"""

import ctypes
import hashlib
from pathlib import Path

import numpy as np

HEADER = Path(__file__).parent / "calls.h"

# Field -> C type. Shapes are those of gemm.h, tokenwise.h, gates.h, experts.h, attention.h,
# latent_attention.h, delta_rule.h, ssm_scan.h, gated_norm.h, topk.h and sampling.h.
CALLS = {
    "Pack": {
        "format": "int64_t",
        "N": "int64_t",
        "K": "int64_t",
        "blocks": "const void *",
        "out": "uint8_t *",
    },
    "Gemm": {
        "format": "int64_t",
        "activations": "int64_t",
        "M": "int64_t",
        "N": "int64_t",
        "K": "int64_t",
        "x": "const uint16_t *",
        "x_stride": "int64_t",
        "packed": "const uint8_t *",
        "bias": "const uint16_t *",
        "out": "void *",
        "out_stride": "int64_t",
        "epilogue": "int64_t",
        "limit": "double",
        "alpha": "double",
        "offset": "double",
    },
    "GroupedGemm": {
        "format": "int64_t",
        "activations": "int64_t",
        "groups": "int64_t",
        "N": "int64_t",
        "K": "int64_t",
        "x": "const uint16_t *",
        "packed": "const uint8_t *const *",
        "biases": "const uint16_t *const *",
        "ends": "const int64_t *",
        "out": "void *",
        "out_stride": "int64_t",
        "epilogue": "int64_t",
        "limit": "double",
        "alpha": "double",
        "offset": "double",
    },
    "HeadGemm": {
        "format": "int64_t",
        "activations": "int64_t",
        "tokens": "int64_t",
        "num_heads": "int64_t",
        "N": "int64_t",
        "K": "int64_t",
        "x": "const uint16_t *",
        "x_stride": "int64_t",
        "x_step": "int64_t",
        "packed": "const uint8_t *const *",
        "out": "uint16_t *",
        "out_stride": "int64_t",
        "out_step": "int64_t",
    },
    "Argmax": {
        "format": "int64_t",
        "activations": "int64_t",
        "M": "int64_t",
        "N": "int64_t",
        "K": "int64_t",
        "x": "const uint16_t *",
        "packed": "const uint8_t *",
        "values": "float *",
        "ids": "int64_t *",
    },
    "Embed": {
        "format": "int64_t",
        "N": "int64_t",
        "K": "int64_t",
        "packed": "const uint8_t *",
        "ids": "const int32_t *",
        "num_ids": "int64_t",
        "out": "uint16_t *",
    },
    "AddRmsNorm": {
        "x": "const uint16_t *",
        "delta": "const uint16_t *",
        "weight": "const uint16_t *",
        "sum": "uint16_t *",
        "out": "uint16_t *",
        "tokens": "int64_t",
        "width": "int64_t",
        "eps": "double",
    },
    "RotateStore": {
        "qkv": "uint16_t *",
        "stride": "int64_t",
        "cos": "const uint16_t *",
        "sin": "const uint16_t *",
        "cache": "uint8_t *",
        "block_stride": "int64_t",
        "kv_bits": "int64_t",
        "slot_mapping": "const int32_t *",
        "tokens": "int64_t",
        "num_heads": "int64_t",
        "num_kv_heads": "int64_t",
        "dim": "int64_t",
        "block_size": "int64_t",
    },
    "LatentStore": {
        "rows": "const uint16_t *",
        "stride": "int64_t",
        "weight": "const uint16_t *",
        "eps": "double",
        "cos": "const uint16_t *",
        "sin": "const uint16_t *",
        "is_interleaved": "int64_t",
        "cache": "uint8_t *",
        "block_stride": "int64_t",
        "block_size": "int64_t",
        "slot_mapping": "const int32_t *",
        "tokens": "int64_t",
        "dim": "int64_t",
        "value_dim": "int64_t",
        "num_heads": "int64_t",
        "turning": "const uint16_t *",
        "turning_stride": "int64_t",
        "turning_step": "int64_t",
        "queries": "uint16_t *",
    },
    "HeadNorm": {
        "heads": "const uint16_t *",
        "stride": "int64_t",
        "weight": "const uint16_t *",
        "weight_stride": "int64_t",
        "is_centred": "int64_t",
        "out": "uint16_t *",
        "out_stride": "int64_t",
        "tokens": "int64_t",
        "num_heads": "int64_t",
        "dim": "int64_t",
        "eps": "double",
    },
    "AddLayerNorm": {
        "x": "const uint16_t *",
        "delta": "const uint16_t *",
        "weight": "const uint16_t *",
        "bias": "const uint16_t *",
        "sum": "uint16_t *",
        "out": "uint16_t *",
        "tokens": "int64_t",
        "width": "int64_t",
        "eps": "double",
    },
    "GateMul": {
        "gate": "const uint16_t *",
        "gate_stride": "int64_t",
        "up": "const uint16_t *",
        "up_stride": "int64_t",
        "out": "uint16_t *",
        "tokens": "int64_t",
        "width": "int64_t",
        "function": "int64_t",
    },
    "ScaledSum": {
        "x": "const uint16_t *",
        "y": "const uint16_t *",
        "out": "uint16_t *",
        "tokens": "int64_t",
        "width": "int64_t",
        "scale": "double",
    },
    "Route": {
        "logits": "const float *",
        "logit_scale": "double",
        "bias": "const float *",
        "correction": "const float *",
        "scales": "const float *",
        "weight_scale": "double",
        "is_sigmoid": "int64_t",
        "renormalise": "int64_t",
        "tokens": "int64_t",
        "num": "int64_t",
        "top_k": "int64_t",
        "num_groups": "int64_t",
        "top_groups": "int64_t",
        "group_score": "int64_t",
        "first": "int64_t",
        "count": "int64_t",
        "weights": "float *",
        "rows": "int32_t *",
        "places": "int32_t *",
        "ends": "int64_t *",
    },
    "GatherRows": {
        "x": "const uint16_t *",
        "rows": "const int32_t *",
        "ends": "const int64_t *",
        "count": "int64_t",
        "top_k": "int64_t",
        "width": "int64_t",
        "out": "uint16_t *",
    },
    "TakeColumns": {
        "x": "const uint16_t *",
        "order": "const int32_t *",
        "ends": "const int64_t *",
        "groups": "int64_t",
        "tokens": "int64_t",
        "width": "int64_t",
        "count": "int64_t",
        "out": "uint16_t *",
    },
    "SumExperts": {
        "results": "const uint16_t *",
        "weights": "const float *",
        "places": "const int32_t *",
        "shared": "const uint16_t *",
        "x": "const uint16_t *",
        "gate": "const float *",
        "gate_width": "int64_t",
        "tokens": "int64_t",
        "top_k": "int64_t",
        "width": "int64_t",
        "out": "uint16_t *",
    },
    "DeltaRule": {
        "x": "const uint16_t *",
        "x_stride": "int64_t",
        "a": "const uint16_t *",
        "b": "const uint16_t *",
        "gate_stride": "int64_t",
        "rates": "const float *",
        "biases": "const float *",
        "key_heads": "const int32_t *",
        "state": "float *",
        "reads": "const int32_t *",
        "writes": "const int32_t *",
        "starts": "const int32_t *",
        "chains": "const int32_t *",
        "num_sequences": "int64_t",
        "num_key_heads": "int64_t",
        "num_value_heads": "int64_t",
        "key_dim": "int64_t",
        "value_dim": "int64_t",
        "eps": "double",
        "out": "uint16_t *",
    },
    "GatedNorm": {
        "x": "const uint16_t *",
        "gate": "const uint16_t *",
        "gate_stride": "int64_t",
        "gate_scale": "double",
        "order": "int64_t",
        "weight": "const float *",
        "weight_stride": "int64_t",
        "squares": "const float *",
        "count": "int64_t",
        "out": "uint16_t *",
        "tokens": "int64_t",
        "num_groups": "int64_t",
        "dim": "int64_t",
        "eps": "double",
    },
    "GatedSquares": {
        "x": "const uint16_t *",
        "gate": "const uint16_t *",
        "gate_stride": "int64_t",
        "gate_scale": "double",
        "order": "int64_t",
        "out": "float *",
        "tokens": "int64_t",
        "num_groups": "int64_t",
        "dim": "int64_t",
    },
    "SsmScan": {
        "x": "const uint16_t *",
        "x_stride": "int64_t",
        "steps": "const uint16_t *",
        "step_stride": "int64_t",
        "step_scale": "double",
        "least_step": "double",
        "most_step": "double",
        "rates": "const float *",
        "biases": "const float *",
        "skips": "const float *",
        "groups": "const int32_t *",
        "state": "float *",
        "reads": "const int32_t *",
        "writes": "const int32_t *",
        "starts": "const int32_t *",
        "chains": "const int32_t *",
        "num_sequences": "int64_t",
        "num_heads": "int64_t",
        "head_dim": "int64_t",
        "num_groups": "int64_t",
        "state_dim": "int64_t",
        "out": "uint16_t *",
    },
    "CausalConv": {
        "x": "const uint16_t *",
        "x_stride": "int64_t",
        "weight": "const float *",
        "bias": "const float *",
        "state": "float *",
        "reads": "const int32_t *",
        "writes": "const int32_t *",
        "starts": "const int32_t *",
        "chains": "const int32_t *",
        "num_sequences": "int64_t",
        "channels": "int64_t",
        "taps": "int64_t",
        "silu": "int64_t",
        "out": "uint16_t *",
    },
    "Attention": {
        "q": "const uint16_t *",
        "q_stride": "int64_t",
        "cache": "const uint8_t *",
        "block_stride": "int64_t",
        "kv_bits": "int64_t",
        "block_tables": "const int32_t *",
        "table_stride": "int64_t",
        "items": "const AttentionItem *",
        "num_items": "int64_t",
        "merges": "const AttentionMerge *",
        "num_merges": "int64_t",
        "num_heads": "int64_t",
        "num_kv_heads": "int64_t",
        "dim": "int64_t",
        "block_size": "int64_t",
        "partials": "float *",
        "out": "uint16_t *",
        "scale": "double",
        "softcap": "double",
        "window": "int64_t",
        "sinks": "const float *",
        "parallel": "int64_t",
    },
    "LatentAttention": {
        "q": "const uint16_t *",
        "cache": "const uint8_t *",
        "block_stride": "int64_t",
        "block_tables": "const int32_t *",
        "table_stride": "int64_t",
        "items": "const AttentionItem *",
        "num_items": "int64_t",
        "merges": "const AttentionMerge *",
        "num_merges": "int64_t",
        "num_heads": "int64_t",
        "most_rows": "int64_t",
        "dim": "int64_t",
        "value_dim": "int64_t",
        "block_size": "int64_t",
        "partials": "float *",
        "out": "uint16_t *",
        "scale": "double",
        "parallel": "int64_t",
    },
    "TopK": {
        "logits": "const float *",
        "width": "int64_t",
        "rows": "const int64_t *",
        "num_rows": "int64_t",
        "count": "int64_t",
        "values": "float *",
        "ids": "int64_t *",
    },
    "ExpSums": {
        "logits": "const float *",
        "width": "int64_t",
        "rows": "const int64_t *",
        "num_rows": "int64_t",
        "scales": "const float *",
        "chunk": "int64_t",
        "peaks": "float *",
        "sums": "float *",
    },
    "CountGreater": {
        "logits": "const float *",
        "width": "int64_t",
        "rows": "const int64_t *",
        "num_rows": "int64_t",
        "values": "const float *",
        "counts": "int64_t *",
    },
    "ApplyMasks": {
        "logits": "float *",
        "width": "int64_t",
        "rows": "const int64_t *",
        "num_rows": "int64_t",
        "masks": "const int32_t *",
        "mask_words": "int64_t",
        "offset": "int64_t",
    },
}
# Calls point to arrays of these; every field is an int32_t. attention.h says what they mean.
RECORDS = {
    "AttentionItem": ["sequence", "token", "count", "position", "first_key", "end_key", "partial"],
    "AttentionMerge": ["token", "partial", "count"],
}
_CTYPES = {"int64_t": ctypes.c_int64, "double": ctypes.c_double}


def _fields(name: str) -> list[tuple[str, type]]:
    return [(field, _CTYPES.get(c_type, ctypes.c_void_p)) for field, c_type in CALLS[name].items()]


def record(name: str) -> np.dtype[np.void]:
    """Return numpy's layout of a record, its fields by name."""
    return np.dtype([(field, np.int32) for field in RECORDS[name]])


def interface() -> int:
    """Return the number of these declarations."""
    return int(hashlib.sha256(_structs().encode()).hexdigest()[:8], 16)


def header() -> str:
    """Return calls.h."""
    return (
        "/* Made from calls.py by `python -m backend.native.calls`; do not edit. */\n"
        "#ifndef UNISONO_CALLS_H\n#define UNISONO_CALLS_H\n\n#include <stdint.h>\n\n"
        f"#define INTERFACE 0x{interface():08x}\n\n{_structs()}\n#endif\n"
    )


def _structs() -> str:
    records = {name: dict.fromkeys(fields, "int32_t") for name, fields in RECORDS.items()}
    return "".join(
        "typedef struct {\n"
        + "".join(f"    {_member(c_type, field)};\n" for field, c_type in fields.items())
        + f"}} {name};\n\n"
        for name, fields in (records | CALLS).items()
    )


def _member(c_type: str, field: str) -> str:
    return f"{c_type}{field}" if c_type.endswith("*") else f"{c_type} {field}"


class Pack(ctypes.Structure):
    _fields_ = _fields("Pack")


class Gemm(ctypes.Structure):
    _fields_ = _fields("Gemm")


class GroupedGemm(ctypes.Structure):
    _fields_ = _fields("GroupedGemm")


class HeadGemm(ctypes.Structure):
    _fields_ = _fields("HeadGemm")


class Argmax(ctypes.Structure):
    _fields_ = _fields("Argmax")


class Embed(ctypes.Structure):
    _fields_ = _fields("Embed")


class AddRmsNorm(ctypes.Structure):
    _fields_ = _fields("AddRmsNorm")


class RotateStore(ctypes.Structure):
    _fields_ = _fields("RotateStore")


class LatentStore(ctypes.Structure):
    _fields_ = _fields("LatentStore")


class HeadNorm(ctypes.Structure):
    _fields_ = _fields("HeadNorm")


class AddLayerNorm(ctypes.Structure):
    _fields_ = _fields("AddLayerNorm")


class GateMul(ctypes.Structure):
    _fields_ = _fields("GateMul")


class ScaledSum(ctypes.Structure):
    _fields_ = _fields("ScaledSum")


class Route(ctypes.Structure):
    _fields_ = _fields("Route")


class GatherRows(ctypes.Structure):
    _fields_ = _fields("GatherRows")


class TakeColumns(ctypes.Structure):
    _fields_ = _fields("TakeColumns")


class SumExperts(ctypes.Structure):
    _fields_ = _fields("SumExperts")


class DeltaRule(ctypes.Structure):
    _fields_ = _fields("DeltaRule")


class GatedNorm(ctypes.Structure):
    _fields_ = _fields("GatedNorm")


class GatedSquares(ctypes.Structure):
    _fields_ = _fields("GatedSquares")


class SsmScan(ctypes.Structure):
    _fields_ = _fields("SsmScan")


class CausalConv(ctypes.Structure):
    _fields_ = _fields("CausalConv")


class Attention(ctypes.Structure):
    _fields_ = _fields("Attention")


class LatentAttention(ctypes.Structure):
    _fields_ = _fields("LatentAttention")


class TopK(ctypes.Structure):
    _fields_ = _fields("TopK")


class ExpSums(ctypes.Structure):
    _fields_ = _fields("ExpSums")


class CountGreater(ctypes.Structure):
    _fields_ = _fields("CountGreater")


class ApplyMasks(ctypes.Structure):
    _fields_ = _fields("ApplyMasks")


if __name__ == "__main__":
    HEADER.write_text(header())
