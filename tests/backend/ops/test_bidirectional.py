"""Attention of encoders against its formula, sequence by sequence."""

from itertools import pairwise

import torch

from backend.ops.bidirectional import LENGTH_UNIT, BidirectionalAttention

HEADS, DIM = 2, 8


def test_tokens_see_all_of_their_sequence_and_no_other() -> None:
    lens = [3, LENGTH_UNIT, 1, 2 * LENGTH_UNIT + 5, 7]
    starts = [0, *torch.tensor(lens).cumsum(0).tolist()]
    torch.manual_seed(0)
    qkv = torch.randn(starts[-1], 3 * HEADS, DIM)
    bias = torch.randn(HEADS, 64, 64)
    attention = BidirectionalAttention(
        starts, torch.float32, torch.device("cpu"), lambda n: bias[:, :n, :n]
    )
    found = attention.run(qkv, HEADS, scale=0.5)
    for start, end in pairwise(starts):
        q, k, v = (part.transpose(0, 1) for part in qkv[start:end].chunk(3, dim=1))
        scores = 0.5 * q @ k.transpose(1, 2) + bias[:, : end - start, : end - start]
        expected = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
        assert torch.allclose(found[start:end], expected, atol=1e-5)
