#!/bin/sh
# torch.sigmoid of one and the same float32 number is not one number on a CPU: whole vectors of the processor
# go through one routine, what is left at the end of a tensor through another, and the last bits differ. So a
# token's row of six or sixteen scores depends on where it lies among the rows that are computed with it.
#
# Why it matters to a server: routers of expert models take sigmoids of a few scores a token. Whether two experts
# tie, and the weights of those chosen, then change with the other requests in the batch: the same seeded
# request gives another text alone and in a crowd, though every matrix product in it is batch-invariant.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import torch

print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
scores = torch.randn(4096, 6, generator=torch.Generator().manual_seed(0))
together = scores.sigmoid()
alone = torch.cat([row.clone().sigmoid()[None] for row in scores])
moved = int((together != alone).any(-1).sum())
print("guess: an elementwise function gives a row the same bits alone and among others")
print(f"seen: {moved} of {len(scores)} rows of six scores have other bits alone")
assert moved > 0
assert torch.allclose(together, alone, rtol=1e-6, atol=0)
wide = torch.cat([row.double().sigmoid().float()[None] for row in scores])
print("seen: by way of float64 all rows are the same:", torch.equal(scores.double().sigmoid().float(), wide))
assert torch.equal(scores.double().sigmoid().float(), wide)
PYTHON
