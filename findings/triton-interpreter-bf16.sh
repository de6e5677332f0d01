#!/bin/sh
# Triton's interpreter, which runs a GPU's kernels on a CPU, keeps bfloat16 as unsigned integers. tl.dot hands
# these to numpy as they are, so the product of two matrices of ones is 128 * 16256^2 and not 128; float16 is
# right. A conversion from float32 to bfloat16 cuts the low bits where a GPU rounds to the nearest.
#
# Why it matters to a server: attention and matrix products in bfloat16 are most of what one would try in
# the interpreter where no GPU is at hand, and this looks like a wrong pointer of one's own. Kernels have
# to widen their operands there, and tolerances be twice as wide as on the device.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install --no-deps triton==3.7.1
# A kernel's source must be in a file.
cat > "$folder/dots.py" <<'PYTHON'
import torch
import triton
import triton.language as tl


@triton.jit
def dot(a, b, out, N: tl.constexpr):
    rows, columns = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    left, right = tl.load(a + rows * N + columns), tl.load(b + rows * N + columns)
    tl.store(out + rows * N + columns, tl.dot(left, right))


@triton.jit
def convert(x, out, N: tl.constexpr):
    places = tl.arange(0, N)
    tl.store(out + places, tl.load(x + places).to(tl.bfloat16))


print("triton", triton.__version__, "torch", torch.__version__)
found = {}
for dtype in (torch.float16, torch.bfloat16):
    ones, out = torch.ones(128, 128, dtype=dtype), torch.zeros(128, 128)
    dot[(1,)](ones, ones, out, N=128)
    found[dtype] = out[0, 0].item()
print("guess: a row of 128 ones times a column of 128 ones is 128, in either type")
print(f"seen: {found[torch.float16]} in float16, {found[torch.bfloat16]:,.0f} in bfloat16")
assert found[torch.float16] == 128
assert abs(found[torch.bfloat16] - 128 * 16256**2) <= 1e-6 * 128 * 16256**2

x = torch.linspace(1, 2, 1024)
out = torch.zeros(1024, dtype=torch.bfloat16)
convert[(1,)](x, out, N=1024)
rounded, cut = int((out == x.bfloat16()).sum()), int((out.float() <= x).sum())
print("guess: a number becomes the nearest in bfloat16, as in PyTorch and on a GPU")
print(f"seen: {rounded} of 1024 are the nearest, {cut} are not above the number itself")
assert rounded < 700 and cut == 1024
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/dots.py"
