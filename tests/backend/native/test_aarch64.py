"""The portable level on another architecture, emulated: the very bits that it has on this one."""

import shutil
import subprocess
from pathlib import Path

import pytest

import backend.native

SOURCES = Path(backend.native.__file__).parent
UNITS = ["levels/portable.c", "packing.c", "argmax.c", "products.c", "threads.c"]
FLAGS = "-std=c11 -O1 -ffp-contract=off -pthread -static".split()
# Of Debian's packages gcc-aarch64-linux-gnu and qemu-user.
TOOLS = ["gcc", "aarch64-linux-gnu-gcc", "qemu-aarch64"]
TIMEOUT_S = 120


def build(compiler: str, folder: Path) -> Path:
    target = folder / compiler
    sources = [Path(__file__).parent / "level_hashes.c", *(SOURCES / name for name in UNITS)]
    command = [compiler, *FLAGS, f"-I{SOURCES}", *map(str, sources), "-o", str(target), "-lm"]
    subprocess.run(command, check=True)
    return target


def output(*command: str | Path) -> list[str]:
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    return result.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="needs " + ", ".join(TOOLS))
def test_portable_level_has_the_same_bits_on_arm(tmp_path: Path) -> None:
    """Weights packed, GEMMs in every format, rotation and attention."""
    expected = output(build("gcc", tmp_path))
    assert len(expected) > 300
    assert output("qemu-aarch64", build("aarch64-linux-gnu-gcc", tmp_path)) == expected
