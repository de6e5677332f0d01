"""Triton's kernels run on a GPU where there is one, else in Triton's interpreter, on the CPU."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
