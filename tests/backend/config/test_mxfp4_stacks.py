"""Which tensors of a directory are stacks of experts in MXFP4."""

import pytest

from backend.config.errors import ModelError
from backend.config.mxfp4_stacks import StoredStack, find_stacks
from backend.config.quantization_methods import read_quantization
from backend.config.quantized_linears import FileTensor, present

BLOCKS, SCALES = FileTensor("U8", (4, 96, 3, 16)), FileTensor("U8", (4, 96, 3))
OTHERS = {"x.bias": FileTensor("BF16", (4, 96)), "norm.weight": FileTensor("BF16", (96,))}


def test_stack_is_one_tensor_among_others() -> None:
    tensors = {"x_blocks": BLOCKS, "x_scales": SCALES, **OTHERS}
    stacks = find_stacks(tensors)
    assert stacks == {"x": StoredStack("x", (4, 96, 96))}
    shapes = {"x": (4, 96, 96), "x.bias": (4, 96), "norm.weight": (96,)}
    assert present(stacks, tensors) == shapes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_scales": None}, "has no tensor x_scales, which MXFP4 needs beside x_blocks"),
        ({"x_blocks": FileTensor("U8", (4, 96, 3, 32))}, "16 bytes and one exponent for each 32"),
        ({"x_scales": FileTensor("U8", (4, 96, 2))}, r"x_scales \[4, 96, 2\] do not fit"),
        ({"x_scales": FileTensor("BF16", (4, 96, 3))}, "x_scales is BF16 .* U8 of 3 dimensions"),
        ({"x_blocks": FileTensor("U8", (96, 3, 16))}, "U8 of 4 dimensions"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    changes: dict[str, FileTensor | None], words: str
) -> None:
    tensors = {"x_blocks": BLOCKS, "x_scales": SCALES, **changes}
    with pytest.raises(ModelError, match=words):
        find_stacks({name: tensor for name, tensor in tensors.items() if tensor})


def test_method_and_its_fields() -> None:
    found = read_quantization(
        {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}
    )
    assert found and found.method == "mxfp4" and found.name == "MXFP4"
    with pytest.raises(ModelError, match="group_size is not known"):
        read_quantization({"quantization_config": {"quant_method": "mxfp4", "group_size": 16}})
