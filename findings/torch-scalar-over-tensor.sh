#!/bin/sh
# A number divided by a tensor is not an IEEE division in PyTorch on a CPU: `127.0 / x` is the reciprocal of x
# times 127, rounded twice. The same quotient by a tensor of 127s, or by numpy, is rounded once.
#
# Why it matters to a server: activations become integers by round(x * (127 / largest of the group)). Groups
# whose largest is a short number (bfloat16 always is) put many products right between two integers, and
# the last bit of the quotient decides. An oracle in PyTorch written in the natural way then disagrees
# with a kernel in C by whole integers, in a few groups of a thousand: it looks like a bug of the kernel.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy
import torch

print("torch", torch.__version__, "numpy", numpy.__version__)
largest = torch.linspace(0.5, 4, 4096).bfloat16().float().unique()
by_number = 127.0 / largest
by_tensor = torch.full_like(largest, 127.0) / largest
by_numpy = torch.from_numpy(numpy.float32(127) / largest.numpy())
differ = int((by_number != by_tensor).sum())
print("guess: 127.0 / x and full_like(x, 127.0) / x are the same bits")
print(f"seen: {differ} of {len(largest)} quotients differ")
assert torch.equal(by_tensor, by_numpy), "a tensor by a tensor is rounded once"
assert torch.equal(by_number, largest.reciprocal() * 127.0), "a number by a tensor is rounded twice"
assert differ > 0

values = torch.linspace(-4, 4, 8191).bfloat16().float()
one, other = ((values[:, None] * inverse).round() for inverse in (by_number, by_tensor))
inside = values[:, None].abs() <= largest
moved = int(((one != other) & inside).sum())
print(f"seen: {moved} of {int(inside.sum())} activations become another integer")
assert moved > 0
PYTHON
