"""Prints llama.cpp's logits of GGUF files: run as a program, since its libraries load for good.

Usage: python -m tests.suites.llama_cpp_logits BINDINGS LIBRARIES, and on standard input an object
of file -> token ids. BINDINGS: the sources of llama-cpp-python, whose ctypes are used without
installing it. LIBRARIES: the folder that llama.cpp was built in.
"""

import ctypes
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

CONTEXT = 256


def load(bindings: Path, libraries: Path) -> Any:
    """Return llama_cpp's functions, over libraries that are built already."""
    os.environ["LLAMA_CPP_LIB_PATH"] = str(libraries)
    for name in ("libggml-base.so", "libggml.so"):
        library = ctypes.CDLL(str(libraries / name), mode=ctypes.RTLD_GLOBAL)
    library.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    library.ggml_backend_load_all_from_path(str(libraries).encode())
    # The package itself imports more than there is here; its one module of ctypes does not.
    package = types.ModuleType("llama_cpp")
    package.__path__ = [str(bindings / "llama_cpp")]
    sys.modules["llama_cpp"] = package
    from llama_cpp import llama_cpp  # type: ignore[import-not-found]

    return llama_cpp


def logits_of(llama: Any, path: str, token_ids: list[int]) -> list[list[float]]:
    """Return the logits after each token, [T, V], keys and values kept in float32."""
    model_params = llama.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(path.encode(), model_params)
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
    params.n_threads = 1
    params.type_k = params.type_v = params.flash_attn_type = 0
    context = llama.llama_init_from_model(model, params)
    assert model and context, f"llama.cpp does not load {path}"
    batch = llama.llama_batch_init(len(token_ids), 0, 1)
    batch.n_tokens = len(token_ids)
    for index, token_id in enumerate(token_ids):
        batch.token[index], batch.pos[index] = token_id, index
        batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, 1
    assert llama.llama_decode(context, batch) == 0
    width = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    rows = [
        np.ctypeslib.as_array(llama.llama_get_logits_ith(context, index), shape=(width,)).tolist()
        for index in range(len(token_ids))
    ]
    llama.llama_free(context)
    llama.llama_model_free(model)
    return rows


if __name__ == "__main__":
    llama_cpp = load(Path(sys.argv[1]), Path(sys.argv[2]))
    asked: dict[str, list[int]] = json.load(sys.stdin)
    json.dump({path: logits_of(llama_cpp, path, ids) for path, ids in asked.items()}, sys.stdout)
