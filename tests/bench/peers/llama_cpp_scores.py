"""What llama.cpp says of a text: `python -m tests.bench.peers.llama_cpp_scores MODEL < TEXT`.

A process of its own, which loads the library beside the server of llama_cpp.py through the bindings
that lie with its sources. Prints {"ids": [..], "nll": [..]}: the tokens, and of all but the first
the negative log-probability after those before.
"""

import ctypes
import importlib
import json
import os
import sys
import types
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON, build_llama_server
from tests.suites.environment import sources

CHUNK = 128


def main() -> None:
    lib = load_bindings()
    model = lib.llama_model_load_from_file(sys.argv[1].encode(), lib.llama_model_default_params())
    ids = tokenize(lib, lib.llama_model_get_vocab(model), sys.stdin.read().encode())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = len(ids) + 8, CHUNK, CHUNK
    context = lib.llama_init_from_model(model, params)
    vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    nll: list[float] = []
    for start in range(0, len(ids), CHUNK):
        targets = ids[start + 1 : start + CHUNK + 1]
        rows = decode(lib, context, ids[start : start + CHUNK], start, vocab_size)
        for row, target in zip(rows, targets, strict=False):
            top = row.max()
            nll.append(float(top + np.log(np.exp(row - top).sum()) - row[target]))
    print(json.dumps({"ids": ids, "nll": nll}))


def load_bindings() -> Any:
    """Import the bindings without the package around them, which wants more of others."""
    libraries = build_llama_server().parent
    os.environ["LLAMA_CPP_LIB_PATH"] = str(libraries)
    package = types.ModuleType("llama_cpp")
    package.__path__ = [str(sources("llama-cpp-python", LLAMA_CPP_PYTHON) / "llama_cpp")]
    sys.modules["llama_cpp"] = package
    lib = importlib.import_module("llama_cpp.llama_cpp")
    # The code for this processor is a library that ggml looks for beside the program.
    ggml = ctypes.CDLL(str(libraries / "libggml.so"))
    ggml.ggml_backend_load_all_from_path(str(libraries).encode())
    return lib


def tokenize(lib: Any, vocab: Any, text: bytes) -> list[int]:
    room = len(text) + 8
    ids = (lib.llama_token * room)()
    count = lib.llama_tokenize(vocab, text, len(text), ids, room, True, False)
    return list(ids[:count])


def decode(
    lib: Any, context: Any, ids: list[int], start: int, vocab_size: int
) -> list[NDArray[np.float64]]:
    """Return the logits after each of some tokens, in float64."""
    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for index, token in enumerate(ids):
        batch.token[index], batch.pos[index] = token, start + index
        batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, 1
    if code := lib.llama_decode(context, batch):
        raise SystemExit(f"llama.cpp: llama_decode gave {code}")
    rows = [
        np.ctypeslib.as_array(lib.llama_get_logits_ith(context, index), (vocab_size,)).astype(float)
        for index in range(len(ids))
    ]
    lib.llama_batch_free(batch)
    return rows


if __name__ == "__main__":
    main()
