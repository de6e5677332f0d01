"""Builds llama.cpp's server from the sources that the package llama-cpp-python carries.

It is built as its own releases are: ggml's CPU code once for each family of processors, of which
the server loads the best that the machine has, or the one it is told to.
With GCC 12 the code for CPUs with AMX is known to crash.
"""

import os
import subprocess
from pathlib import Path

from gateway.default_model import cache_directory
from tests.suites.environment import installed, sources

LLAMA_CPP_PYTHON = "0.3.36"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
}
# Our levels -> the processor whose instructions ggml compiles for. cascadelake and cooperlake are
# icelake and zen4 without VBMI, for which ggml has no code.
VARIANTS = {
    "portable": "x64",
    "avx2": "haswell",
    "avx_vnni": "alderlake",
    "avx512": "skylakex",
    "avx512_vnni": "cascadelake",
    "avx512_bf16": "cooperlake",
    "amx": "sapphirerapids",
}


def build_llama_server() -> Path:
    """Return the program, which takes the best code the processor has.

    It is built first, in half an hour on two cores, if need be.
    Raises CalledProcessError where a compiler is missing or the index cannot be reached.
    """
    home = cache_directory() / "peers" / f"llama-cpp-python-{LLAMA_CPP_PYTHON}-variants"
    program = home / "build" / "bin" / "llama-server"
    if program.exists():
        return program
    home.mkdir(parents=True, exist_ok=True)
    tools = installed("cmake", "cmake", "ninja")
    unpacked = sources("llama-cpp-python", LLAMA_CPP_PYTHON) / "vendor" / "llama.cpp"
    definitions = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    where = ["-S", str(unpacked), "-B", str(home / "build")]
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}"]
    subprocess.run([tools / "cmake", *where, *generator, *definitions], check=True)
    subprocess.run([tools / "ninja", "-C", home / "build", "llama-server"], check=True)
    return program


def server_of(level: str) -> tuple[Path, dict[str, str]]:
    """Return the program that computes with a level's instructions, and the variables it wants.

    level: one of VARIANTS, or "" for the best of the processor.
    """
    program = build_llama_server()
    if not level:
        return program, {}
    # ggml loads the best of the backends beside the program, so this one stands alone.
    alone = program.parents[1] / "alone" / program.name
    if not alone.exists():
        alone.parent.mkdir(exist_ok=True)
        os.link(program, alone)
    backend = program.with_name(f"libggml-cpu-{VARIANTS[level]}.so")
    return alone, {"GGML_BACKEND_PATH": str(backend)}
