#!/bin/sh
# Weights in fp8 have a scale for each block of 128 x 128. transformers turns them back by dividing the matrix
# into as many equal parts as there are scales, not into blocks of the size that the configuration says:
# where the rows are no multiple of 128, scales land on rows that are not theirs, without a word, or the
# parts do not come out even and loading fails.
#
# Why it matters to a server: DeepSeek's files have a matrix of 576 rows in every layer (compressed keys and
# values, 512 + 64), and tensor parallel cuts make more such sizes. The format's definition is plain; what
# was loaded this way is no reference for it: it is wrong by more than the format itself rounds, in some
# rows of some matrices, and looks like a bug in whoever follows the definition.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install \
    torch==2.13.0 transformers==5.23.0 numpy==2.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

print("torch", torch.__version__, "transformers", transformers.__version__)
torch.manual_seed(0)
SIZE, LARGEST = 128, 448.0


def quantised(rows, columns):
    """A matrix whose blocks differ in size, as fp8 and the scales of its blocks."""
    weight = torch.randn(rows, columns) * 0.05
    weight[:SIZE] *= 10
    blocks = [block.split(SIZE, 1) for block in weight.split(SIZE)]
    scales = torch.stack([torch.stack([b.abs().max() for b in row]) for row in blocks]) / LARGEST
    each = scales.repeat_interleave(SIZE, 0)[:rows].repeat_interleave(SIZE, 1)[:, :columns]
    values = (weight / each).to(torch.float8_e4m3fn)
    return weight, values, scales, values.float() * each


def theirs(values, scales):
    return Fp8Dequantize(None)._dequantize_one(values, scales).float()


for rows in (256, 192):
    weight, values, scales, defined = quantised(rows, 512)
    by_definition = float((defined - weight).abs().max())
    seen = float((theirs(values, scales) - weight).abs().max())
    print(f"{rows} rows: guess: an error of {by_definition:.3f}, fp8's; seen: {seen:.3f}")
    assert (seen > 5 * by_definition) == (rows % SIZE != 0), rows

_, values, scales, _ = quantised(576, 512)
try:
    theirs(values, scales)
    raise AssertionError("576 rows were read")
except ValueError as error:
    print("576 rows: guess: the same; seen:", str(error).splitlines()[0])
PYTHON
