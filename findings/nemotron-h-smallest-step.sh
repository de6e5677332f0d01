#!/bin/sh
# transformers' Nemotron-H raises every step of its state space to time_step_min while it reads a prompt, and does
# not when it goes on from a cache: the logits of the last token depend on whether the prompt was read at once or
# the token was fed by itself. With a time_step_min near zero both agree, so the cache is not to blame.
#
# Why it matters to a server: it is the reference that one's own decode is held against, and what
# model.generate() writes follows the second of the two. A server that copies the prompt's rule into its
# decode (or compares a whole forward pass with its own token by token) finds an error of several percent.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1 transformers==5.23.0
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import torch
import transformers
from transformers import NemotronHConfig, NemotronHForCausalLM

print("transformers", transformers.__version__, "torch", torch.__version__)


def difference(smallest: float) -> float:
    torch.manual_seed(0)
    config = NemotronHConfig(
        vocab_size=32, hidden_size=32, layers_block_type=["linear_attention", "full_attention"],
        mamba_num_heads=4, mamba_head_dim=16, n_groups=1, ssm_state_size=16,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, time_step_min=smallest,
    )
    model = NemotronHForCausalLM(config).eval()
    model.model.layers[0].mixer.dt_bias.data.fill_(-3.0)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(15)
    ids = torch.arange(3, 11)[None]
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits[0, -1]
        cache = model(ids[:, :-1], use_cache=True).past_key_values
        by_itself = model(ids[:, -1:], past_key_values=cache, use_cache=True).logits[0, -1]
    return float((whole - by_itself).abs().max() / whole.abs().max())


print("guess: the last logits are the same, whether the last token is read with the prompt or after it")
for smallest in (1e-9, 0.5):
    print(f"seen: with time_step_min {smallest:g} they differ by {difference(smallest):.1e} of the largest")
assert difference(1e-9) < 1e-4
assert difference(0.5) > 1e-2
PYTHON
