#!/bin/sh
# The first operator within any subclass of TorchDispatchMode imports PyTorch's compiler, torch._dynamo with all
# that it needs, into a process that never compiles: when the class is made, its handler is wrapped in a
# function that keeps the compiler out of it, and that asks the compiler how.
#
# Why it matters to a server: such a mode is how one counts a step's operators and allocations, to plan memory
# before the weights are loaded. The watching itself then adds memory that stays for the process's life, in
# every worker, and time to the start; a measurement of the host's memory measures the compiler instead. (Seen:
# 75 MB and a second without triton.) A private classmethod, _should_skip_dynamo, avoids it where the class
# itself, not one that inherits the handler, has it return False.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1
cat >"$folder/watch.py" <<'PYTHON'
import os
import sys
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Plain(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Told(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


torch.empty(3)
assert "torch._dynamo" not in sys.modules
modules, before, start = len(sys.modules), resident(), time.monotonic()
with {"Plain": Plain, "Told": Told}[sys.argv[1]]():
    torch.empty(3)
print(f"{sys.argv[1]}: {len(sys.modules) - modules} modules, {resident() - before:.0f} MB,",
      f"{time.monotonic() - start:.1f} s, compiler imported: {'torch._dynamo' in sys.modules}")
assert ("torch._dynamo" in sys.modules) == (sys.argv[1] == "Plain")
assert (resident() - before > 50) == (sys.argv[1] == "Plain")
PYTHON
"$folder/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
echo "guess: a mode that hands each operator on imports nothing; seen:"
"$folder/venv/bin/python" "$folder/watch.py" Plain
"$folder/venv/bin/python" "$folder/watch.py" Told
