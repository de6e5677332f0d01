"""Prints llama.cpp's vectors or scores of GGUF files of encoders: run as a program.

Usage: python -m tests.suites.llama_cpp_vectors BINDINGS LIBRARIES, and on standard input an object
of file -> lists of token ids; see llama_cpp_logits.py.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.suites.llama_cpp_logits import CONTEXT, load


def vectors_of(llama: Any, path: str, texts: list[list[int]]) -> list[list[float]]:
    """Return what the file pools each text to: a vector, or the logit of its score."""
    model_params = llama.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(path.encode(), model_params)
    assert model, f"llama.cpp does not load {path}"
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
    params.n_threads = 1
    params.embeddings = True
    params.flash_attn_type = 0
    context = llama.llama_init_from_model(model, params)
    is_score = llama.llama_pooling_type(context) == llama.LLAMA_POOLING_TYPE_RANK
    width = 1 if is_score else llama.llama_model_n_embd(model)
    found = []
    for ids in texts:
        batch = llama.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for index, token_id in enumerate(ids):
            batch.token[index], batch.pos[index] = token_id, index
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, 1
        assert llama.llama_encode(context, batch) == 0
        vector = llama.llama_get_embeddings_seq(context, 0)
        found.append(np.ctypeslib.as_array(vector, shape=(width,)).tolist())
        llama.llama_batch_free(batch)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return found


if __name__ == "__main__":
    llama_cpp = load(Path(sys.argv[1]), Path(sys.argv[2]))
    asked: dict[str, list[list[int]]] = json.load(sys.stdin)
    json.dump({path: vectors_of(llama_cpp, path, ids) for path, ids in asked.items()}, sys.stdout)
