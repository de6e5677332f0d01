"""The optional C extension: kernels for every processor, level by level.

Built when the package is installed, if a compiler is at hand. `kernels` is None, and `absence` says
why and what to do, where it was not built; stock torch serves then.
"""

import os
from importlib import import_module
from typing import Any

from backend.native.calls import interface
from backend.native.level import LEVELS

# For tests: levels above the one that it names are not there.
MAX_LEVEL = "KERNELS_MAX_LEVEL"

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


def levels() -> list[str]:
    """Return the levels of our kernels that this processor has, best first."""
    if kernels is None:
        return []
    allowed = LEVELS[LEVELS.index(os.environ.get(MAX_LEVEL, LEVELS[0])) :]
    return [level for level in kernels.levels() if level in allowed]


def set_num_threads(count: int) -> None:
    """Have `count` threads run the kernels, the caller among them. Not while a kernel runs."""
    if kernels is not None:
        kernels.set_num_threads(count)


if kernels is not None:
    kernels.use(levels()[0])
