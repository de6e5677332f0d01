"""Steps of decodes replayed over Triton's kernels: padding and bounds change no token."""

from pathlib import Path

import pytest
import torch

from backend.engine import platform
from backend.ops.triton.decode_attention import SPLIT_KEYS
from backend.ops.triton.triton_ops import TritonOps
from backend.placement.decode_sizes import DecodeSizes
from tests.backend.engine.test_device_runner import Request, World
from tests.backend.factories import write_tiny_llama
from tests.backend.models.tiny_engine import engine_of

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

# Attention has two pieces, one of which has no keys.
SIZES = DecodeSizes((3,), (SPLIT_KEYS + 40,))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the host's queue drives the interpreter")
def test_replayed_decodes_give_the_tokens_of_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "_select_ops", lambda *_: TritonOps())
    path = write_tiny_llama(tmp_path, num_layers=1, num_heads=2, num_kv_heads=1)
    world = World(engine_of(path, max_num_seqs=3, exact=True))
    requests = [Request((9 + n, 20 + n, 30), 0, 4) for n in range(2)]
    assert world.ahead(requests, SIZES) == world.one_by_one(requests)
    assert world.queue.num_replays == 3
