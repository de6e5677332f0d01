"""How the weights of a Hugging Face directory are quantised, as data. No torch, opens nothing.

quantization_methods.py makes a Quantization of config.json. Where the tensors of a linear lie, and
whether they fit what is said here, is quantized_linears.py's. Modules that are not quantised need
no list here: the tensors that a file has of them say so.
"""

import re
from typing import Literal

import msgspec

from backend.config.errors import ModelError

# awq, gptq: qweight, qzeros and scales. packed: weight_packed and weight_scale. plain: weight, of
# int8 or fp8, and its scales. mxfp4: stacks of experts (mxfp4_stacks.py).
Layout = Literal["awq", "gptq", "packed", "plain", "mxfp4"]


class WeightScheme(msgspec.Struct, frozen=True):
    """How the linears of a group are stored.

    name: for the operator. bits: of a value, an integer unless is_float. scale_block: rows and
    columns that share a scale, 0 for all of them. is_symmetric: whether the file says that no
    value but the middle one stands for 0. zero_offset: what is added to a stored zero point.
    is_any_order: whether the columns of a group lie apart, so that a tensor must say which are
    whose. has_whole_groups: whether all groups of columns are of one size.
    """

    layout: Layout
    name: str
    bits: int
    scale_block: tuple[int, int]
    is_symmetric: bool = True
    zero_offset: int = 0
    is_float: bool = False
    is_any_order: bool = False
    has_whole_groups: bool = False


class SchemeGroup(msgspec.Struct, frozen=True):
    """A scheme and the modules it is for: names, "re:" patterns, classes such as Linear."""

    targets: tuple[str, ...]
    scheme: WeightScheme


class Quantization(msgspec.Struct, frozen=True):
    """How a directory's weights are stored. groups: the first that names a module counts."""

    method: str
    groups: tuple[SchemeGroup, ...]

    @property
    def name(self) -> str:
        """What the operator is shown."""
        return " and ".join(dict.fromkeys(group.scheme.name for group in self.groups))

    def scheme_of(self, module: str) -> WeightScheme:
        """Return how a module is stored. Raises ModelError if no group is for it."""
        # The more specific first, as compressed-tensors has it.
        for matches in (_is_named, _is_matched, _is_class):
            for group in self.groups:
                if any(matches(target, module) for target in group.targets):
                    return group.scheme
        if len(self.groups) == 1:
            return self.groups[0].scheme
        raise ModelError(
            f"module {module} is quantised, and no group of quantization_config is for it"
        )


def _is_named(target: str, module: str) -> bool:
    return target == module


def _is_matched(target: str, module: str) -> bool:
    if not target.startswith("re:"):
        return False
    try:
        return re.match(target.removeprefix("re:"), module) is not None
    except re.error as exc:
        raise ModelError(f"quantization_config: {target!r} is no pattern: {exc}") from None


def _is_class(target: str, module: str) -> bool:
    return target in ("Linear", "LinearBase")
