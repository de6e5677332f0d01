#!/bin/sh
# A Triton kernel that is compiled ahead of time from its source and the types of its arguments takes other
# shared memory than the same kernel when it is launched: a launch sees that pointers and strides are
# multiples of 16, and only then are loads copied ahead into shared memory. Told nothing, the compiler
# pipelines less, without a word, and `metadata.shared` is half of what a launch takes.
#
# Why it matters to a server: whether tiles fit a card's shared memory (101,376 bytes on an A10) is checked by
# such a compilation where there is no card, in CI. A check without hints passes, and the first request on the
# real card fails with "out of resource". The hints that a launch makes must be handed in: of each argument
# its divisibility by 16.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install --no-deps triton==3.7.1
# A kernel's source must be in a file.
cat > "$folder/product.py" <<'PYTHON'
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile


@triton.jit
def product(x, w, out, k, BLOCK: tl.constexpr):
    rows, columns, depth = tl.arange(0, BLOCK), tl.arange(0, BLOCK), tl.arange(0, 64)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, k, 64):
        left = tl.load(x + rows[:, None] * k + start + depth[None, :])
        right = tl.load(w + columns[None, :] * k + start + depth[:, None])
        total = tl.dot(left, right, total)
    tl.store(out + rows[:, None] * BLOCK + columns[None, :], total)


print("triton", triton.__version__)
types = {"x": "*bf16", "w": "*bf16", "out": "*fp32", "k": "i32", "BLOCK": "constexpr"}
as_launched = {(place,): [["tt.divisibility", 16]] for place in range(4)}
for capability, expected in ((80, (32768, 65536)), (90, (65536, 98304))):
    seen = []
    for hints in ({}, as_launched):
        source = ASTSource(product, types, {"BLOCK": 128}, hints)
        target = GPUTarget("cuda", capability, 32)
        seen.append(compile(source, target=target, options={"num_stages": 3}).metadata.shared)
    print(f"compute capability {capability / 10}; guess: shared memory is told as a launch takes it")
    print(f"seen: {seen[0]:,} bytes by the types alone, {seen[1]:,} with what a launch knows of them")
    assert tuple(seen) == expected, seen
PYTHON
TRITON_CACHE_DIR="$folder/cache" "$folder/venv/bin/python" "$folder/product.py"
