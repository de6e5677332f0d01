"""What the fields of quantization_config mean, method by method, and which methods are served."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backend.config.errors import ModelError
from backend.config.hf_directory import read_json
from backend.config.quantization import Quantization, SchemeGroup, WeightScheme
from backend.config.quantization_fields import QuantizationFields


def quantization_of(directory: Path) -> Quantization | None:
    """Read how a directory's weights are stored; see read_quantization."""
    path = directory / "config.json"
    values = read_json(path, dict[str, Any])
    try:
        return read_quantization(values)
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from None


def read_quantization(values: Mapping[str, Any]) -> Quantization | None:
    """Read how weights are stored out of the fields of config.json; None: as they are.

    Raises ModelError for a method or a variant that is not served.
    """
    settings, inner = values.get("quantization_config"), None
    if isinstance(text := values.get("text_config"), dict):
        inner = text.get("quantization_config")
    if None not in (settings, inner) and settings != inner:
        raise ModelError(
            "quantization_config and text_config.quantization_config differ\n"
            "remove the one that is wrong"
        )
    settings = inner if settings is None else settings
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise ModelError(f"quantization_config is {settings!r}, not an object")
    method = settings.get("quant_method")
    if method is None and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"
    if method == "bitsandbytes":
        raise ModelError(
            "quantization_config: weights of bitsandbytes are not supported\n"
            "take a GGUF file of the model (Q4_K_M), or a directory quantised with AWQ or GPTQ"
        )
    reader = _METHODS.get(method) if isinstance(method, str) else None
    if reader is None:
        raise ModelError(
            f"quantization_config: quant_method {method!r} is not supported; "
            f"{', '.join(_METHODS)} are\ntake the unquantised model, or a GGUF file of it"
        )
    fields = QuantizationFields(settings)
    # GPTQModel names it twice.
    fields.one_of("method", (method,), method)
    return reader(fields)


def _awq(fields: QuantizationFields) -> Quantization:
    for name in ("version", "format", "checkpoint_format"):
        fields.one_of(name, ("gemm",), "gemm")
    fields.one_of("backend", ("auto", "autoawq", "auto_trainable"), "auto")
    fields.one_of("pack_dtype", ("int32",), "int32")
    whole = _awq_scheme(fields, fields.get("q_group_size", 128))
    groups = _overrides(fields, lambda other: _awq_scheme(other, whole.scale_block[1] or -1))
    # zero_point and sym say how scales were chosen; the file has zero points either way.
    fields.finish(_OF_THE_MAKING + "zero_point modules_to_not_convert sym desc_act lm_head")
    return Quantization("awq", (*groups, SchemeGroup(("Linear",), whole)))


def _awq_scheme(fields: QuantizationFields, size: int) -> WeightScheme:
    bits = fields.one_of("bits", (4,), fields.get("w_bit", 4))
    group = _group_size(fields, size)
    return WeightScheme(
        "awq", f"AWQ int{bits}", bits, (1, group), is_symmetric=False, has_whole_groups=True
    )


def _gptq(fields: QuantizationFields) -> Quantization:
    layouts = ("gptq", "gptq_v2")
    layout = fields.one_of("format", layouts, fields.get("checkpoint_format", "gptq"))
    # Libraries differ in which of the two they believe.
    if layout != fields.one_of("checkpoint_format", layouts, layout):
        raise ModelError(f"{fields.where}: format and checkpoint_format differ; which is right?")
    fields.one_of("pack_dtype", ("int32",), "int32")
    # Version 1 stores what is one less than each zero point.
    offset = 1 if layout == "gptq" else 0
    whole = _gptq_scheme(fields, offset, None)
    groups = _overrides(fields, lambda other: _gptq_scheme(other, offset, whole))
    fields.finish(_OF_THE_MAKING + "lm_head backend")
    return Quantization("gptq", (*groups, SchemeGroup(("Linear",), whole)))


def _overrides(
    fields: QuantizationFields, scheme_of: Callable[[QuantizationFields], WeightScheme]
) -> list[SchemeGroup]:
    """Return the modules that GPTQModel has quantised otherwise than the rest."""
    groups = []
    for pattern, overrides in fields.objects("dynamic").items():
        if not pattern.startswith("-"):  # those are not quantised
            target = "re:" + pattern.removeprefix("+:")
            groups.append(SchemeGroup((target,), scheme_of(overrides)))
            overrides.finish(_OF_THE_MAKING)
    return groups


def _gptq_scheme(
    fields: QuantizationFields, offset: int, whole: WeightScheme | None
) -> WeightScheme:
    bits = fields.one_of("bits", (2, 4, 8), whole and whole.bits)
    group = _group_size(fields, whole.scale_block[1] or -1 if whole else 128)
    is_symmetric = fields.flag("sym", whole.is_symmetric if whole else False)
    is_any_order = fields.get("desc_act", bool(whole and whole.is_any_order)) is True
    return WeightScheme(
        "gptq",
        f"GPTQ int{bits}",
        bits,
        (1, group),
        is_symmetric,
        offset,
        is_any_order=is_any_order,
    )


def _compressed_tensors(fields: QuantizationFields) -> Quantization:
    if (sparsity := fields.child("sparsity_config")) is not None:
        sparsity.one_of("format", ("dense",), "dense")
    fields.one_of("quantization_status", ("compressed",), "compressed")
    whole = fields.get("format", "")
    groups = []
    for group in fields.objects("config_groups").values():
        scheme = _compressed_scheme(group, group.get("format", whole))
        targets = group.get("targets", ["Linear"])
        if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
            raise ModelError(f"{group.where}.targets is {targets!r}, not a list of names")
        # Ours are finer: quantised activations are what makes others fast.
        group.finish("input_activations output_activations")
        groups.append(SchemeGroup(tuple(targets), scheme))
    if not groups:
        raise ModelError(f"{fields.where}.config_groups names no group")
    # Keys and values are kept as --kv-cache-dtype says.
    fields.finish("ignore kv_cache_scheme global_compression_ratio version moe_sparsity_config")
    return Quantization("compressed-tensors", tuple(groups))


def _compressed_scheme(group: QuantizationFields, layout: object) -> WeightScheme:
    if layout not in _COMPRESSED_LAYOUTS:
        raise ModelError(
            f"{group.where}: format {layout!r} is not supported; {', '.join(_COMPRESSED_LAYOUTS)}"
        )
    weights = group.child("weights")
    if weights is None:
        raise ModelError(f"{group.where}.weights is missing")
    is_float = weights.one_of("type", ("int", "float"), "int") == "float"
    is_packed = layout == "pack-quantized"
    # Values of 3, 5, 6 and 7 bits lie otherwise since compressed-tensors 0.18, and no field says
    # which of the two a file has.
    allowed = (2, 4, 8) if is_packed else (8,) if is_float else (4, 8)
    hint = ", since files of others are ambiguous" if is_packed else ""
    bits = weights.one_of("num_bits", allowed, 8, hint)
    is_symmetric = weights.flag("symmetric", True)
    block = _scale_block(weights)
    if is_float and (is_packed or not is_symmetric):
        raise ModelError(f"{weights.where}: float values are not {layout} or asymmetric")
    if weights.flag("dynamic", False):
        raise ModelError(
            f"{weights.where}.dynamic is true, but weights in a file have their scales"
        )
    order = str(weights.get("actorder", False)).lower()
    if order not in ("false", "weight", "static", *_ANY_ORDER):
        raise ModelError(
            f"{weights.where}.actorder {order!r} is not supported; weight, static, group, dynamic"
        )
    weights.finish("observer observer_kwargs scale_dtype zp_dtype")
    kind = f"fp{bits}" if is_float else f"int{bits}"
    return WeightScheme(
        "packed" if is_packed else "plain",
        f"compressed-tensors {kind}",
        bits,
        block,
        is_symmetric,
        is_float=is_float,
        is_any_order=order in _ANY_ORDER,
        has_whole_groups=block[0] == 1,
    )


def _scale_block(weights: QuantizationFields) -> tuple[int, int]:
    """Return rows and columns that share a scale; the strategy may follow from group_size."""
    size = weights.integer("group_size", 0)
    strategy = "group" if size > 0 else "channel" if size < 0 else "tensor"
    strategy = weights.one_of("strategy", ("tensor", "channel", "group", "block"), strategy)
    if strategy == "group":
        if size <= 0:
            raise ModelError(f"{weights.where}.group_size is {size}, which is no group")
        return (1, size)
    if strategy == "block":
        return _block(weights, "block_structure")
    return (1, 0) if strategy == "channel" else (0, 0)


def _fp8(fields: QuantizationFields) -> Quantization:
    fields.one_of("fmt", ("e4m3", "float8_e4m3fn"), "e4m3")
    fields.one_of("expert_dtype", ("fp8",), "fp8")
    has_blocks = fields.get("weight_block_size") is not None
    block = _block(fields, "weight_block_size") if has_blocks else (0, 0)
    fields.finish(
        "activation_scheme modules_to_not_convert modules_to_convert ignored_layers dequantize"
        " scale_fmt kv_cache_scheme kv_cache_quant_method is_checkpoint_fp8_serialized"
    )
    scheme = WeightScheme("plain", "fp8", 8, block, is_float=True)
    return Quantization("fp8", (SchemeGroup(("Linear",), scheme),))


def _mxfp4(fields: QuantizationFields) -> Quantization:
    # dequantize: how transformers keeps them.
    fields.finish("modules_to_not_convert dequantize")
    scheme = WeightScheme("mxfp4", "MXFP4", 4, (1, 32), is_float=True)
    return Quantization("mxfp4", (SchemeGroup((), scheme),))


def _block(fields: QuantizationFields, name: str) -> tuple[int, int]:
    value = fields.get(name)
    if isinstance(value, str):  # "128x128", of old versions
        value = [int(part) if part.isdigit() else part for part in value.split("x")]
    match value:
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return rows, columns
    raise ModelError(f"{fields.where}.{name} is {value!r}, not two positive integers")


def _group_size(fields: QuantizationFields, default: int) -> int:
    """Return columns of a group; 0 for all."""
    size = fields.integer("group_size", default)
    if size < 1 and size != -1:
        raise ModelError(f"{fields.where}.group_size is {size}, neither positive nor -1")
    return max(size, 0)


_METHODS: dict[str, Callable[[QuantizationFields], Quantization]] = {
    "awq": _awq,
    "gptq": _gptq,
    "compressed-tensors": _compressed_tensors,
    "fp8": _fp8,
    "mxfp4": _mxfp4,
}
_COMPRESSED_LAYOUTS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized")
# What actorder says of columns whose groups a tensor tells.
_ANY_ORDER = ("group", "dynamic", "true")
# How AWQ and GPTQ came to their values, and how other programs run them.
_OF_THE_MAKING = """
    meta tokenizer dataset damp_percent damp_auto_increment act_group_aware true_sequential
    static_groups mse batch_size model_seqlen max_input_length block_name_to_quantize
    module_name_preceding_first_block modules_in_block_to_quantize cache_block_outputs pad_token_id
    use_cuda_fp16 use_exllama disable_exllama exllama_config model_name_or_path
    model_file_base_name base_model_name_or_path do_fuse modules_to_fuse fuse_max_seq_len
    offload_to_disk offload_to_disk_path quantizer method
    """
