"""torch as a rank imports it, in interpreters of their own."""

import subprocess
import sys

import torch

from backend.ranks.torch_import import LEFT_OUT, tracing_left_out

# What a rank computes with is there; what was left out comes when it is asked for.
PROGRAM = """\
import sys
from backend.ranks.torch_import import LEFT_OUT, tracing_left_out

with tracing_left_out():
    import torch.multiprocessing

assert not set(LEFT_OUT) & set(sys.modules)
assert not hasattr(torch, "_meta_registrations")
x = torch.randn(2, 4, 8, 16, dtype=torch.bfloat16)
y = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
assert y.float().logsumexp(-1).topk(3).values.isfinite().all()

from torch._subclasses.fake_tensor import FakeTensorMode
import torch._meta_registrations

with FakeTensorMode():
    assert torch.linalg.qr(torch.empty(4, 3)).Q.shape == (4, 3)
assert torch._meta_registrations.activate_meta
"""


def test_torch_computes_without_tracing_and_gets_it_when_asked() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_torch_that_is_loaded_is_left_alone() -> None:
    before = {name: sys.modules.get(name) for name in LEFT_OUT}
    with tracing_left_out():
        assert {name: sys.modules.get(name) for name in LEFT_OUT} == before
    assert {name: sys.modules.get(name) for name in LEFT_OUT} == before
    assert torch._meta_registrations is before["torch._meta_registrations"]
