"""Experts of a directory in MXFP4: a stack of matrices in two tensors, values and exponents.

As OpenAI's gpt-oss has them (OCP Microscaling Formats 1.0): 32 columns of a row share a power of 2.
No torch; looks at names, dtypes and shapes alone.
"""

from collections.abc import Mapping
from typing import NamedTuple

from backend.config.errors import ModelError
from backend.config.quantized_linears import FileTensor

_BLOCKS, _SCALES = "_blocks", "_scales"
BLOCK = 32


class StoredStack(NamedTuple):
    """Matrices [experts, out, in] that lie in two tensors.

    `name`_blocks: [experts, out, in / 32, 16] uint8, two values a byte, the first in the low bits.
    `name`_scales: [experts, out, in / 32] uint8, exponents of 2, 127 too large.
    """

    name: str
    shape: tuple[int, int, int]

    @property
    def blocks(self) -> str:
        return self.name + _BLOCKS

    @property
    def scales(self) -> str:
        return self.name + _SCALES

    @property
    def tensor_names(self) -> tuple[str, ...]:
        return self.blocks, self.scales


def find_stacks(tensors: Mapping[str, FileTensor]) -> dict[str, StoredStack]:
    """Return the name that a stack would have in bfloat16 -> the stack, of all that there are.

    Raises ModelError for one whose tensors are missing, or of another dtype or shape.
    """
    stacks = {}
    for name, blocks in tensors.items():
        if not name.endswith(_BLOCKS):
            continue
        stem = name.removesuffix(_BLOCKS)
        if (scales := tensors.get(stem + _SCALES)) is None:
            raise ModelError(f"has no tensor {stem}{_SCALES}, which MXFP4 needs beside {name}")
        _check(name, blocks, 4)
        _check(stem + _SCALES, scales, 3)
        experts, rows, groups, size = blocks.shape
        if size != BLOCK // 2 or scales.shape != (experts, rows, groups):
            raise ModelError(
                f"tensors {name} {list(blocks.shape)} and {stem}{_SCALES} {list(scales.shape)} do"
                " not fit: MXFP4 has\n16 bytes and one exponent for each 32 columns of a row"
            )
        stacks[stem] = StoredStack(stem, (experts, rows, groups * BLOCK))
    return stacks


def _check(name: str, tensor: FileTensor, num_dims: int) -> None:
    if tensor.dtype != "U8" or len(tensor.shape) != num_dims:
        raise ModelError(
            f"tensor {name} is {tensor.dtype} of shape {list(tensor.shape)}; experts in MXFP4 have"
            f" U8 of {num_dims} dimensions"
        )
