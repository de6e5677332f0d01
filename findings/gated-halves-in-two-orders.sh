#!/bin/sh
# The MLP of GTE and NomicBERT has a gate, as Llama's has, and transformers 5.23 calls its matrices gate_proj and
# up_proj. Its files have neither: save_pretrained writes the names of the models' authors, one matrix of both halves
# (up_gate_proj) or two that are numbered (fc11, fc12), and there the half that is activated comes second. ModernBERT's
# Wi, of the same kind and year, has it first, as every fused gate_up of decoders.
#
# Why it matters to a server that reads the files itself: state_dict() and model.safetensors of one model name other
# tensors, of other shapes, and taking the first half for the gate fits every shape and gives vectors that look like
# vectors. Only numbers beside the library's show it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1 transformers==5.23.0
FOLDER="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import os

import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__, "torch", torch.__version__)
WIDTH, HIDDEN = 96, 48
sizes = {
    "vocab_size": 96, "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 3,
    "intermediate_size": WIDTH, "max_position_embeddings": 64, "pad_token_id": 0,
}
torch.manual_seed(0)


def saved(kind):
    """A random model's own tensors, and those of its file."""
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    where = os.path.join(os.environ["FOLDER"], kind)
    model.save_pretrained(where)
    return model, model.state_dict(), load_file(os.path.join(where, "model.safetensors"))


for kind, activated, other in (
    ("Gte", ("encoder.layer.0.mlp.up_gate_proj.weight", 1), ("encoder.layer.0.mlp.up_gate_proj.weight", 0)),
    ("NomicBert", ("encoder.layers.0.mlp.fc12.weight", 0), ("encoder.layers.0.mlp.fc11.weight", 0)),
):
    _, own, file = saved(kind)
    print(f"{kind}: {len(set(own) - set(file))} of its {len(own)} tensors are not in its file by name")
    assert "layers.0.mlp.gate_proj.weight" in own and not any("mlp.gate_proj" in name for name in file)
    for role, (name, half) in (("gate_proj", activated), ("up_proj", other)):
        part = file[name][half * WIDTH : (half + 1) * WIDTH]
        assert torch.equal(part, own[f"layers.0.mlp.{role}.weight"]), (kind, role)
    print("  guess: of two halves the first is the gate")
    print(f"  seen: the gate is {activated[0]}, from row {activated[1] * WIDTH} on; up is {other[0]}")

model, own, file = saved("ModernBert")
mlp, x = model.layers[0].mlp, torch.randn(5, HIDDEN)
with torch.no_grad():
    before = mlp(x)
    mlp.Wi.weight[WIDTH:].neg_()  # what is multiplied turns the sign, what is activated does not
    after = mlp(x)
print("ModernBert: with the second half of Wi negated, the output is negated:", torch.equal(before, -after))
assert torch.equal(before, -after) and "layers.0.mlp.Wi.weight" in file
PYTHON
