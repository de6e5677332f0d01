"""Triton's kernels run on a GPU where there is one, else in Triton's interpreter, on the CPU."""

import os

import pytest
import torch

# Read when a kernel is declared, that is when its module is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

pytest.importorskip("triton", reason="Triton is not installed")
