"""The collector's pause, in an interpreter of its own: it concerns the whole process."""

import subprocess
import sys

PROGRAM = """\
import gc
from backend.wire.local.collection import collection_paused

try:
    with collection_paused():
        assert not gc.isenabled()
        before, kept = gc.get_freeze_count(), [[] for _ in range(1000)]
        raise ModuleNotFoundError
except ModuleNotFoundError:
    assert gc.isenabled()
    assert gc.get_freeze_count() - before >= 1000
"""


def test_what_is_loaded_in_the_pause_is_never_looked_through() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
