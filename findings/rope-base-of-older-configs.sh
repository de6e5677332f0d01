#!/bin/sh
# transformers 5 moved a model's rotary base into rope_parameters and still reads the older fields, but the
# base gets lost on the way where a config.json is of both times or a class has two kinds of layers: OLMo 3
# takes an older file's rope_theta for the layers that see all tokens and the class's default for those
# with a window; a Llama with a default rope_parameters beside the older rope_scaling gets 10000.
#
# Why it matters to a server: such files load without a word, at any length something is generated, and
# what is wrong is only how far positions turn. Whoever compares with transformers' logits has to make
# the same mistake, or to know that it is one: the file's own number appears nowhere in the result.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import transformers

print("transformers", transformers.__version__)
olmo = transformers.Olmo3Config(num_hidden_layers=4, rope_theta=1e6).rope_parameters
seen = {kind: parameters["rope_theta"] for kind, parameters in olmo.items()}
print("guess: rope_theta of an older file is the base of all layers, 1000000")
print("seen in OLMo 3:", seen)
assert seen == {"full_attention": 1e6, "sliding_attention": 5e5}, seen

llama = transformers.LlamaConfig(
    rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    rope_scaling={"type": "linear", "factor": 4.0},
).rope_parameters
print("guess: of two layouts in one file one wins, and the base is 500000 either way")
print("seen in Llama:", llama)
assert llama["rope_type"] == "linear" and llama["rope_theta"] == 10000.0, llama
PYTHON
