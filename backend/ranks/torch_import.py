"""Imports torch without what only tracers of models use: torch.compile, torch.export.

These have every operator described a second time in Python, for tensors without data (device
"meta"), and `import torch` loads that too: 0.35 of its 1.4 s of CPU time (torch 2.13). A rank runs
its model as it is and waits for this import longest. Called by rank.py, before anything of torch.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

LEFT_OUT = ("torch._meta_registrations", "torch.distributed._meta_registrations")


@contextlib.contextmanager
def tracing_left_out() -> Iterator[None]:
    """Import torch inside for the first time: modules of LEFT_OUT are taken as empty.

    Whoever imports one of them afterwards gets it whole. Changes nothing if torch is loaded.
    """
    stubs = {name: ModuleType(name) for name in LEFT_OUT if "torch" not in sys.modules}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, stub in stubs.items():
            del sys.modules[name]
            package, _, attribute = name.rpartition(".")
            if vars(sys.modules.get(package, stub)).get(attribute) is stub:
                delattr(sys.modules[package], attribute)
