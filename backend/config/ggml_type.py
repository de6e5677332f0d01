"""ggml's tensor types: their numbers in a file, and how many values and bytes a block has.

Those that the gguf library dequantises, which is where the figures are from; a test holds the two
equal. That library is not asked here: importing it and numpy takes each process 0.15 s.
"""

import enum


class GGMLType(enum.IntEnum):
    """A type by ggml's name and number; equal to gguf's GGMLQuantizationType of that number."""

    block_size: int
    block_bytes: int

    def __new__(cls, number: int, block_size: int, block_bytes: int) -> "GGMLType":
        """Make a member. block_size: values in a block, which lie along a row."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.block_size, member.block_bytes = block_size, block_bytes
        return member

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
