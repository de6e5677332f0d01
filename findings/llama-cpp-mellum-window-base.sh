#!/bin/sh
# llama.cpp loads a key of Mellum's GGUF files that its own converter writes, and then does not use it: layers
# with a window turn by the other layers' rotary base, whatever rope.freq_base_swa, theirs, says. Gemma 3 has
# the same key, and there it counts.
#
# Why it matters to a server: who reads the same file and does as it says gives other logits than llama.cpp
# from the second token on, wherever the two bases differ, and looks for the bug at home. llama.cpp is no
# reference for Mellum then, and text that it writes well is no proof that a file's keys are right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install \
    xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.1
"$folder/venv/bin/python" - "$folder/tiny.gguf" <<'PYTHON'
import importlib.metadata
import sys

import gguf
import numpy
import xllamacpp

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("xllamacpp", "gguf")))
WORDS, WIDTH, HEAD, EXPERTS, LAYERS = 300, 64, 16, 4, 6
BOTH = dict.fromkeys(["attn_q", "attn_k", "attn_v", "attn_output"], [WIDTH, WIDTH])
BOTH |= {"attn_norm": [WIDTH], "ffn_norm": [WIDTH], "attn_q_norm": [HEAD], "attn_k_norm": [HEAD]}
INNER = ["ffn_gate", "ffn_up", "ffn_down"]
ROUTED = {f"{name}_exps": [EXPERTS, WIDTH, WIDTH] for name in INNER} | {"ffn_gate_inp": [EXPERTS, WIDTH]}
DENSE = dict.fromkeys(INNER, [WIDTH, WIDTH]) | dict.fromkeys(["post_attention_norm", "post_ffw_norm"], [WIDTH])
KEYS = {"context_length": 256, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": WIDTH,
        "head_count": WIDTH // HEAD, "head_count_kv": WIDTH // HEAD, "key_length": HEAD, "value_length": HEAD,
        "rope_freq_base": 1e6, "layer_norm_rms_eps": 1e-6, "tokenizer_model": "llama",
        "token_list": [f"w{i}" for i in range(WORDS)], "token_scores": [0.0] * WORDS,
        "token_types": [1] * WORDS, "sliding_window": 128}  # the window is longer than the prompt
OF_ARCH = {"gemma3": {}, "mellum": {"sliding_window_pattern": [True] * 5 + [False], "expert_count": EXPERTS,
           "expert_used_count": 2, "expert_feed_forward_length": WIDTH}}


def scores(path, arch, base):
    file, random = gguf.GGUFWriter(path, arch), numpy.random.default_rng(0)
    for key, value in (KEYS | OF_ARCH[arch] | {"rope_freq_base_swa": base}).items():
        getattr(file, f"add_{key}")(value)
    shapes = {"token_embd": [WORDS, WIDTH], "output": [WORDS, WIDTH], "output_norm": [WIDTH]}
    for index in range(LAYERS):
        layer = BOTH | (ROUTED if arch == "mellum" else DENSE)
        shapes |= {f"blk.{index}.{name}": shape for name, shape in layer.items()}
    for name, shape in shapes.items():
        values = numpy.ones(shape) if "norm" in name else 0.1 * random.standard_normal(shape)
        file.add_tensor(f"{name}.weight", values.astype("f4"))
    for part in ("header", "kv_data", "tensors"):
        getattr(file, f"write_{part}_to_file")()
    file.close()
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.verbosity = path, 256, -1
    params.cpuparams.n_threads, params.n_parallel, params.fit_params = 1, 1, False
    asked = {"prompt": [*range(10, 60)], "n_predict": 1, "n_probs": 5, "temperature": 0}
    answer = xllamacpp.Server(params).handle_completions(asked)
    token = answer["choices"][0]["logprobs"]["content"][0]
    return [(top["id"], round(top["logprob"], 6)) for top in token["top_logprobs"]]


print("guess: two files of other bases for layers with a window give other log-probabilities; seen:")
for arch in ("gemma3", "mellum"):
    one, other = scores(sys.argv[1], arch, 1e6), scores(sys.argv[1], arch, 1e2)
    print(f"  {arch}: {'the same' if one == other else 'others'}: {one[0]} and {other[0]}")
    assert (one == other) == (arch == "mellum")
PYTHON
