#!/bin/sh
# A decoder's classifier in transformers (...ForSequenceClassification) scores the rightmost token that is not
# pad_token_id. It looks at the ids alone: a token that attention_mask shows, at the end of a text, is passed over if
# it is the one that pads, and the token before it is scored. Vocabularies in which what ends a text also pads are
# common, and so are tokenizers that put it behind every text.
#
# Why it matters to a server: it batches without padding and has the text's real last token at hand, whose score is
# another. A classifier or reranker that was trained with the rule has learnt to answer at the token before, so ids
# of the configuration, not the mask, decide which hidden state is taken; a wrong one gives plausible scores.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.4.1 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers

print("transformers", transformers.__version__, "torch", torch.__version__)
END = 3  # it pads as well
torch.manual_seed(0)
config = transformers.Qwen3Config(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, head_dim=16, num_labels=1, pad_token_id=END, eos_token_id=END,
)
model = transformers.Qwen3ForSequenceClassification(config).eval()
text = torch.tensor([[10, 20, 30, END]])
shown = torch.ones_like(text)
with torch.no_grad():
    score = model(text, attention_mask=shown).logits[0]
    hidden = model.model(text, attention_mask=shown).last_hidden_state[0]
    of_each = model.score(hidden)
    model.config.pad_token_id = 0
    otherwise = model(text, attention_mask=shown).logits[0]
print(f"guess: the mask shows four tokens, so the fourth is scored: {of_each[3].item():.4f}")
print(f"seen: {score.item():.4f}, which is the third's, {of_each[2].item():.4f}")
print(f"with another pad_token_id: {otherwise.item():.4f}")
torch.testing.assert_close(score, of_each[2])
torch.testing.assert_close(otherwise, of_each[3])
assert abs(score - otherwise).item() > 0.05
PYTHON
