#!/bin/sh
# GLM-4.7-Flash (Glm4MoeLite) states one rms_norm_eps, and transformers builds two norms of each layer without
# it: those of the compressed queries and keys get the default of their class.
#
# Why it matters to a server: a model is data to it, and "all norms of a model have the configuration's eps"
# is true of nearly all families. Where compressed vectors are small the two are other norms, and servers
# that read the same file disagree (llama.cpp has one eps a file). Whoever compares with transformers
# must know which norms do not follow the field.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import Glm4MoeLiteConfig, Glm4MoeLiteForCausalLM

print("torch", torch.__version__, "transformers", transformers.__version__)
config = Glm4MoeLiteConfig(
    vocab_size=32, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8,
    qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, rms_norm_eps=1e-3,
)
with torch.device("meta"):
    model = Glm4MoeLiteForCausalLM(config)
eps = {
    name: module.variance_epsilon
    for name, module in model.named_modules()
    if hasattr(module, "variance_epsilon") and ("layers.1." in name or name == "model.norm")
}
print("guess: all norms have the eps of rms_norm_eps, 1e-3")
for name, value in eps.items():
    print(f"seen: {name} has {value:g}")
others = {name.rpartition(".")[2] for name, value in eps.items() if value != 1e-3}
assert others == {"q_a_layernorm", "kv_a_layernorm"}, others
assert eps["model.norm"] == 1e-3
PYTHON
