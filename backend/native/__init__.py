"""The optional C extension: kernels for processors with AVX-512 and bf16, level by level.

Built when the package is installed, if a compiler is at hand. `kernels` is None, and `absence` says
why and what to do, where it was not built or where this processor lacks the instructions; stock
torch serves then.
"""

from importlib import import_module
from typing import Any

from backend.native.calls import interface

# pip's own way would leave a copy where make has the tree itself.
_REBUILD = (
    "in the source tree: make clean serve; "
    "without make: pip install --force-reinstall --no-deps --verbose ."
)
_WITHOUT = "or leave --kernels out: PyTorch's own serve"

kernels: Any = None
absence = ""

try:
    kernels = import_module("backend.native._kernels")
except ModuleNotFoundError:
    absence = (
        "the kernels were not built when Unisono was installed\n"
        "they need a C compiler and Python's headers: apt install gcc python3-dev\n"
        f"{_REBUILD}\n{_WITHOUT}"
    )
except ImportError as error:
    absence = f"the kernels cannot be loaded: {error}\n{_WITHOUT}"
else:
    if getattr(kernels, "interface", int)() != interface():
        kernels = None
        absence = f"the kernels were built from other files than these\n{_REBUILD}\n{_WITHOUT}"
    elif not kernels.levels():
        kernels = None
        absence = f"this processor lacks AVX-512 with VNNI and bf16\n{_WITHOUT}"
    else:
        kernels.use(kernels.levels()[0])


def levels() -> list[str]:
    """Return the levels of our kernels that this processor has, best first."""
    return [] if kernels is None else list(kernels.levels())


def set_num_threads(count: int) -> None:
    """Have `count` threads run the kernels, the caller among them. Not while a kernel runs."""
    if kernels is not None:
        kernels.set_num_threads(count)
