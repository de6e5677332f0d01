"""Keeps the cyclic garbage collector away from what a process loads once and keeps for ever.

Knows no modules. Used by every child around its imports.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Load inside what lives as long as the process: it is never looked through.

    The collector walks over everything loaded so far whenever that has grown by a quarter, which
    is a seventh of the CPU time of `import torch` and a third of a worker's imports.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
