"""Builds llama.cpp's server from the sources that the package llama-cpp-python carries.

With GCC 12 the build for CPUs with AMX is known to crash.
"""

import subprocess
from pathlib import Path

from gateway.default_model import cache_directory
from tests.suites.environment import installed, sources

LLAMA_CPP_PYTHON = "0.3.36"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
}


def build_llama_server() -> Path:
    """Return the program; built first, in a quarter of an hour on two cores, if need be.

    Raises CalledProcessError where a compiler is missing or the index cannot be reached.
    """
    home = cache_directory() / "peers" / f"llama-cpp-python-{LLAMA_CPP_PYTHON}"
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
