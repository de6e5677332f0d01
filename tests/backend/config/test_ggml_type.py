"""The table of tensor types against the gguf library's."""

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from backend.config.ggml_type import GGMLType


@pytest.mark.parametrize("kind", GGMLType)
def test_type_is_the_library_s(kind: GGMLType) -> None:
    library_s = GGMLQuantizationType[kind.name]
    assert (kind, hash(kind)) == (library_s, hash(library_s))
    assert (kind.block_size, kind.block_bytes) == GGML_QUANT_SIZES[library_s]


def test_types_are_those_the_library_dequantises() -> None:
    def is_dequantised(kind: GGMLQuantizationType) -> bool:
        block_bytes = GGML_QUANT_SIZES[kind][1]
        try:
            dequantize(np.zeros((1, block_bytes), np.uint8), kind)
        except NotImplementedError:
            return False
        return True

    assert {kind for kind in GGML_QUANT_SIZES if is_dequantised(kind)} == set(GGMLType)
