"""The optional C extension: kernels for processors with AVX-512 and bf16.

Built when the package is installed, if a compiler is at hand. `kernels` is None, and `absence` says
why, where it was not built or where this processor lacks the instructions; stock torch serves then.
"""

from importlib import import_module
from typing import Any

# torch first: its OpenMP runtime is then the extension's as well, and the threads are the same.
import torch  # noqa: F401

kernels: Any = None
absence = ""

try:
    kernels = import_module("backend.native._kernels")
except ImportError as error:
    absence = f"they were not built when Unisono was installed ({error})"
else:
    if not kernels.isa():
        kernels = None
        absence = "this processor lacks AVX-512 with VNNI and bf16"
