"""What a weight is stored as, in a file or after it was rounded at load."""

import enum


class WeightFormat(enum.StrEnum):
    """How the numbers of a weight are kept.

    DENSE: as bf16, fp16 or fp32. Q4: 4-bit integers with a scale and a minimum for each 32 columns,
    GGUF's Q4_0 and Q4_1 bit for bit. Q8: 8-bit integers with a scale for each 32 columns, GGUF's
    Q8_0. Q8_CHANNEL: 8-bit integers with a scale for each row, as torch's kernel takes them.
    """

    DENSE = "dense"
    Q4 = "q4"
    Q8 = "q8"
    Q8_CHANNEL = "q8_channel"
