"""What grammars allow, applied to rows of logits. Called by the sampler."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.native import kernels
from backend.native.calls import ApplyMasks

# What a byte of a mask adds to its eight tokens, the lowest bit's first: [256, 8].
_ADDENDS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"),
    np.float32(0),
    np.float32(-np.inf),
)


def apply_masks(
    logits: Tensor, rows: NDArray[np.int64], masks: NDArray[np.int32], offset: int
) -> None:
    """Add -inf to what a mask forbids; bit i of word w allows token 32 w + i.

    logits: [N, tokens from `offset`] float32, contiguous. rows: [M], of the logits. masks: [M, W],
    contiguous; what lies behind its last bit is forbidden.
    """
    assert logits.is_contiguous() and masks.flags.c_contiguous
    if kernels is not None and logits.device.type == "cpu":
        kernels.apply_masks(
            ApplyMasks(
                logits=logits.data_ptr(),
                width=logits.shape[1],
                rows=rows.ctypes.data,
                num_rows=len(rows),
                masks=masks.ctypes.data,
                mask_words=masks.shape[1],
                offset=offset,
            )
        )
        return
    width = logits.shape[1]
    for row, mask in zip(rows.tolist(), masks, strict=True):
        addends = _ADDENDS[mask.view(np.uint8)].ravel()[offset : offset + width]
        logits[row, : len(addends)] += torch.from_numpy(addends).to(logits.device)
        logits[row, len(addends) :] = -torch.inf
