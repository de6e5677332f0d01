"""Tensors of more than 2^31 numbers, as a cache of 60 GB is and logits of many rows may be.

Places in them are reckoned in 64 bits. Of host memory only the pages that are touched are taken.
"""

import mmap

import pytest
import torch
from torch import Tensor

from backend.ops.batch import FULL, Batch
from backend.ops.triton import gates, norms
from backend.ops.triton.attention import attention, plan_attention
from backend.ops.triton.rotary import store
from backend.ops.triton.survey import survey
from tests.backend.ops.triton.test_triton_ops import DEVICE, randn

pytestmark = pytest.mark.numerics

FAR = (1 << 31) + 4096  # numbers
# Of mmap(2): no memory is set aside. Python names it from 3.13 on.
NO_RESERVE = 0x4000


def far_tensor(numel: int, dtype: torch.dtype) -> Tensor:
    """Return so many numbers, whatever they are."""
    if DEVICE.type == "cuda":
        return torch.empty(numel, dtype=dtype, device=DEVICE)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    return torch.frombuffer(mmap.mmap(-1, numel * dtype.itemsize, flags=flags), dtype=dtype)


def far_rows(rows: Tensor) -> Tensor:
    """Return three rows, the last far behind the first; what lies between them has 32 bits."""
    width = rows.shape[1]
    far = far_tensor(FAR + width, rows.dtype).as_strided((3, width), (FAR // 2, 1))
    return far.copy_(rows)


@pytest.mark.parametrize("tokens", [1, 5])
def test_blocks_far_behind_are_read_and_written(tokens: int) -> None:
    q, kv = randn(tokens, 4, 32, seed=1), randn(tokens, 4, 32, seed=2)
    shape, last = (2, 2, 16, 32), FAR // (2 * 2 * 16 * 32)
    near = torch.zeros(2, *shape, device=DEVICE)
    far = far_tensor((last + 1) * near[0].numel(), near.dtype).view(-1, *shape)
    outs = []
    for cache, block in ((near, 1), (far, last)):
        places = torch.arange(tokens, dtype=torch.int32, device=DEVICE)
        ends = torch.tensor([0, tokens], dtype=torch.int32, device=DEVICE)
        tables = torch.tensor([[block]], dtype=torch.int32, device=DEVICE)
        slots = block * 16 + places
        batch = Batch(
            places, places, slots, tables, places, [0, tokens], [tokens],
            int(tokens == 1), slots[None], tables[None], ends, ends[1:],
        )  # fmt: skip
        store(kv, cache, slots)
        outs.append(attention(q, cache, plan_attention(batch, 4, 2, FULL), None))
    assert torch.equal(near[1], far[last]) and torch.equal(*outs)
    assert bool(outs[0].abs().sum() > 0)


def test_rows_far_behind_are_read() -> None:
    rows, weight = randn(3, 64, seed=3), randn(64, seed=4)
    far = far_rows(rows)
    assert torch.equal(norms.add_rms_norm(far, None, weight, 1e-5)[1],
                       norms.add_rms_norm(rows, None, weight, 1e-5)[1])  # fmt: skip
    assert torch.equal(gates.gate_mul(far, "silu"), gates.gate_mul(rows, "silu"))


def test_logits_far_behind_are_read() -> None:
    rows = randn(3, 320, seed=3).float()
    which = torch.zeros(3, dtype=torch.int32, device=DEVICE)
    found, expected = (survey(each, which, None, 4) for each in (far_rows(rows), rows))
    assert torch.equal(found.keys, expected.keys) and torch.equal(found.sums, expected.sums)
