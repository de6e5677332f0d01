#!/bin/sh
# from_pretrained() of transformers 5.23 walks over the model once more after loading, to initialise what no file had;
# what it has loaded is marked and its init.* functions pass it over. Two classes change weights by other means. A
# Mamba2 whose configuration has rescale_prenorm_residual divides every layer's loaded out_proj by the root of the
# number of layers; a Youtu sets the loaded embedding's row of pad_token_id to zero, with a tied head that token's logit.
#
# Why it matters to a server: it reads the files and multiplies by what they say, so the library that is the reference
# for everything else answers otherwise, with other weights than were saved. Save and load again, and the factor comes
# again: a model that was converted or merged by way of from_pretrained has it in its files.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1 transformers==5.23.0
FOLDER="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import os

import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
print("transformers", transformers.__version__, "torch", torch.__version__)
PAD, LAYERS = 5, 4


def saved_and_loaded(kind, **fields):
    """The parameters of a model as they were saved, and as they are loaded."""
    config = getattr(transformers, f"{kind}Config")(vocab_size=96, hidden_size=48, pad_token_id=PAD, **fields)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    where = os.path.join(os.environ["FOLDER"], kind)
    model.save_pretrained(where)
    again = type(model).from_pretrained(where)
    return dict(model.named_parameters()), dict(again.named_parameters())


torch.manual_seed(0)
before, after = saved_and_loaded(
    "Mamba2", num_hidden_layers=LAYERS, state_size=16, num_heads=6, head_dim=16, n_groups=1,
    rescale_prenorm_residual=True,
)
changed = [name for name in before if not torch.equal(before[name], after[name])]
print("guess: what was saved is what is loaded")
print(f"Mamba2, seen: {len(changed)} of {len(before)} differ: {changed[0]} and its like, which are",
      f"{(after[changed[0]] / before[changed[0]]).mean().item():.3f} of what was saved")
assert len(changed) == LAYERS and all(name.endswith("mixer.out_proj.weight") for name in changed)
for name in changed:
    torch.testing.assert_close(after[name], before[name] / LAYERS**0.5)

before, after = saved_and_loaded(
    "Youtu", num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4, intermediate_size=96,
    kv_lora_rank=16, q_lora_rank=None, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
)
name = "model.embed_tokens.weight"
print(f"Youtu, seen: row {PAD} of {name} was up to {before[name][PAD].abs().max().item():.2f}",
      f"and is {after[name][PAD].abs().max().item():.2f}")
assert before[name][PAD].abs().max() > 0 and not after[name][PAD].any()
rest = [row for row in range(96) if row != PAD]
assert torch.equal(before[name][rest], after[name][rest])
PYTHON
