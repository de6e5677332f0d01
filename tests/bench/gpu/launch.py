"""Runs a module with borrowed packages behind the interpreter's own: `... launch gateway serve`."""

import runpy
import sys

from tests.bench.gpu.packages import borrow

if __name__ == "__main__":
    borrow()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
