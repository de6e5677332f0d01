"""Which linears of a directory are quantised, in which of its tensors, and of what shape.

A quantised linear is shown to the rest of the program as one tensor, `X.weight` [out, in], whatever
tensors it lies in. No torch; looks at names, dtypes and shapes alone.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from backend.config.errors import ModelError
from backend.config.quantization import Layout, Quantization, WeightScheme

# The parts of a linear: the one that it is known by, what else it must have, and what it may have.
_PARTS: dict[Layout, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "awq": ("qweight", ("qzeros", "scales"), ()),
    "gptq": ("qweight", ("qzeros", "scales"), ("g_idx",)),
    "packed": (
        "weight_packed",
        ("weight_scale",),
        ("weight_zero_point", "weight_shape", "weight_g_idx"),
    ),
    "plain": (
        "weight",
        (),
        ("weight_scale", "weight_scale_inv", "weight_zero_point", "weight_g_idx"),
    ),
}
# For activations, keys and values that are quantised as well: ours are not, or more finely.
_OF_ACTIVATIONS = (
    *("input_scale", "input_zero_point", "activation_scale", "output_scale"),
    *("k_scale", "v_scale", "k_zero_point", "v_zero_point", "q_scale"),
)
_FLOATS = ("F16", "BF16", "F32")


class FileTensor(NamedTuple):
    """dtype: as safetensors calls it."""

    dtype: str
    shape: tuple[int, ...]


class StoredLinear(NamedTuple):
    """A linear [out, in] that lies quantised in tensors named `module`.`part`.

    parts: part -> its dtype and shape. scale_block: rows and columns that share a scale.
    """

    module: str
    scheme: WeightScheme
    shape: tuple[int, int]
    scale_block: tuple[int, int]
    parts: dict[str, FileTensor]

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """What the file calls the tensors that it lies in."""
        return tuple(f"{self.module}.{part}" for part in self.parts)

    @property
    def scale(self) -> str:
        """The part that has the scales."""
        return next(part for part in _SCALES if part in self.parts)

    @property
    def zeros(self) -> str | None:
        """The part that has the zero points."""
        return next((part for part in ("qzeros", "weight_zero_point") if part in self.parts), None)

    @property
    def group_index(self) -> str | None:
        """The part that has the group of each column, if they may be in any order."""
        return next((part for part in ("g_idx", "weight_g_idx") if part in self.parts), None)


_SCALES = ("scales", "weight_scale", "weight_scale_inv")


class Quantized(Protocol):
    """What lies quantised in several tensors, and is shown as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def tensor_names(self) -> tuple[str, ...]: ...


def find_linears(
    quantization: Quantization, tensors: Mapping[str, FileTensor]
) -> dict[str, StoredLinear]:
    """Return `X.weight` -> the linear, of all that are quantised.

    Raises ModelError for one whose tensors are missing, or contradict quantization_config.
    """
    layouts = {group.scheme.layout for group in quantization.groups}
    leads = {_PARTS[layout][0] for layout in layouts & _PARTS.keys()}
    linears = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part in leads and (part != "weight" or tensor.dtype in ("I8", "F8_E4M3")):
            scheme = quantization.scheme_of(module)
            if part == _PARTS[scheme.layout][0]:
                linears[f"{module}.weight"] = _linear(module, scheme, tensors)
    return linears


def present(
    linears: Mapping[str, Quantized], tensors: Mapping[str, FileTensor]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that a directory has, quantised linears as one each."""
    if not linears:
        return {name: tensor.shape for name, tensor in tensors.items()}
    parts = {name for linear in linears.values() for name in linear.tensor_names}
    shapes = {
        name: tensor.shape
        for name, tensor in tensors.items()
        if name not in parts and not name.endswith(tuple(f".{p}" for p in _OF_ACTIVATIONS))
    }
    return shapes | {name: linear.shape for name, linear in linears.items()}


def _linear(module: str, scheme: WeightScheme, tensors: Mapping[str, FileTensor]) -> StoredLinear:
    lead, required, optional = _PARTS[scheme.layout]
    parts = {}
    for part in (lead, *required, *optional):
        if (tensor := tensors.get(f"{module}.{part}")) is not None:
            parts[part] = tensor
        elif part in required:
            raise ModelError(
                f"has no tensor {module}.{part}, which a linear of {scheme.name} needs"
                f" beside its {lead}"
            )
    if not any(part in parts for part in _SCALES):
        raise ModelError(f"has no tensor {module}.weight_scale, so {module}.weight means nothing")
    shape = _shape(module, scheme, parts[lead])
    rows, columns = (size or whole for size, whole in zip(scheme.scale_block, shape, strict=True))
    linear = StoredLinear(module, scheme, shape, (rows, columns), parts)
    for part, expected in _expected(linear).items():
        _check(linear, part, *expected)
    _check_groups(linear)
    return linear


def _check_groups(linear: StoredLinear) -> None:
    """Refuse a linear of which quantization_config promises more than there is."""
    module, scheme, columns = linear.module, linear.scheme, linear.shape[1]
    size = linear.scale_block[1]
    if scheme.has_whole_groups and columns % size:
        raise ModelError(
            f"{module} has {columns} columns, which are no whole groups of {size}\n"
            "group_size of quantization_config is wrong"
        )
    if scheme.is_any_order and size < columns and linear.group_index is None:
        part = next(part for part in _PARTS[scheme.layout][2] if part.endswith("g_idx"))
        raise ModelError(
            f"has no tensor {module}.{part}, which says what group each column is of: the\n"
            "columns are in an order of their own, as desc_act or actorder of"
            " quantization_config says"
        )
    if not scheme.is_symmetric and linear.zeros is None:
        raise ModelError(
            f"has no tensor {module}.weight_zero_point, though symmetric of quantization_config"
            " is false"
        )


def _shape(module: str, scheme: WeightScheme, lead: FileTensor) -> tuple[int, int]:
    """Return out and in features."""
    if len(lead.shape) != 2:
        raise ModelError(
            f"{module}: quantised tensors of shape {list(lead.shape)} are not supported, matrices"
            " are; experts must be stored one by one"
        )
    rows, columns = lead.shape
    per_word = 32 // scheme.bits
    match scheme.layout:
        case "awq":
            return columns * per_word, rows
        case "gptq":
            return columns, rows * per_word
        case "packed":
            return rows, columns * per_word
        case "plain":
            return rows, columns
        case "mxfp4":
            raise ModelError(f"{module}: is no stack of experts, which MXFP4 is for")


def _expected(linear: StoredLinear) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return part -> the dtypes that it may have, and its shape."""
    n, k = linear.shape
    bits, layout = linear.scheme.bits, linear.scheme.layout
    scales = tuple(-(-s // b) for s, b in zip(linear.shape, linear.scale_block, strict=True))
    words = -(-n * bits // 32)
    if layout in ("awq", "gptq"):
        groups = scales[1]
        return {
            "qweight": (("I32",), linear.parts["qweight"].shape),
            "scales": (_FLOATS, (groups, n)),
            "qzeros": (("I32",), (groups, words)),
            "g_idx": (("I32", "I64"), (k,)),
        }
    values = ("F8_E4M3",) if linear.scheme.is_float else ("I8",)
    # Old files have zero points as they are, newer ones packed along the rows.
    zeros = linear.parts.get("weight_zero_point")
    is_packed = layout == "packed" and zeros is not None and zeros.dtype == "I32"
    return {
        "weight": (values, linear.shape),
        "weight_packed": (("I32",), (n, k * bits // 32)),
        linear.scale: ((*_FLOATS, "F8_E8M0"), scales),
        "weight_zero_point": (
            (("I32",), (words, *scales[1:])) if is_packed else (("I8", "U8"), scales)
        ),
        "weight_g_idx": (("I32", "I64"), (k,)),
    }


def _check(
    linear: StoredLinear, part: str, dtypes: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    tensor = linear.parts.get(part)
    if tensor is None:
        return
    name, scheme = f"{linear.module}.{part}", linear.scheme
    if tensor.dtype not in dtypes:
        raise ModelError(
            f"tensor {name} is {tensor.dtype}; {scheme.name} has {' or '.join(dtypes)}"
        )
    # A scale for all, or one a row, may be written with fewer dimensions.
    given = len(tensor.shape)
    if tensor.shape != shape[:given] or any(size != 1 for size in shape[given:]):
        rows, columns = linear.scale_block
        raise ModelError(
            f"tensor {name} has shape {list(tensor.shape)}; with {scheme.bits} bits and scales for"
            f" {rows} x {columns} values of a {list(linear.shape)} matrix it would be {list(shape)}"
        )
