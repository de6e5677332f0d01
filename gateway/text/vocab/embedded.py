"""Keeps a tokenizer to the ids that the model has embeddings for.

A file may name more tokens than its model has rows: people add `<think>` to a tokenizer and forget
the weights. Such an id would be read behind the end of the embedding. Owns how the tokens behind
the last row are taken out, so that text which spells one is cut into plain characters. Knows
neither files nor requests. Called by `gateway/text/tokenizer.py`.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import tokenizers

from gateway.text.vocab.pair_form import PairForm
from gateway.text.vocab.vocabulary import Vocabulary


def tokens_without_rows(backend: tokenizers.Tokenizer, num_rows: int) -> list[str]:
    """Return the tokens whose ids are not below `num_rows`, by id."""
    vocab = backend.get_vocab(with_added_tokens=True)
    behind = [(token_id, text) for text, token_id in vocab.items() if token_id >= num_rows]
    return [text for _, text in sorted(behind)]


def keep_rows(vocabulary: Vocabulary, num_rows: int) -> Vocabulary:
    """Return a vocabulary without the ids that are not below `num_rows`.

    Where the backend's kind cannot be cut, or the others' ids would change by it, it stays whole:
    who encodes must then look at the ids.
    """
    bos, eos = vocabulary.bos_token_id, vocabulary.eos_token_id
    return replace(
        vocabulary,
        backend=_cut(vocabulary.backend, num_rows),
        bos_token_id=bos if bos is not None and bos < num_rows else None,
        eos_token_id=eos if eos is not None and eos < num_rows else None,
        eos_token_ids=_below(vocabulary.eos_token_ids, num_rows),
        prefix_ids=_below(vocabulary.prefix_ids, num_rows),
        suffix_ids=_below(vocabulary.suffix_ids, num_rows),
        pair_form=_kept_form(vocabulary.pair_form, num_rows),
        other_ids={name: i for name, i in vocabulary.other_ids.items() if i < num_rows},
    )


def _below(ids: Iterable[int], num_rows: int) -> tuple[int, ...]:
    return tuple(token_id for token_id in ids if token_id < num_rows)


def _kept_form(form: PairForm | None, num_rows: int) -> PairForm | None:
    """Return the form if all its tokens have rows: pairs are of use only in their whole form."""
    if form is None:
        return None
    marks = (*form.before, *form.between, *form.after)
    return form if all(token_id < num_rows for token_id, _ in marks) else None


def _cut(backend: tokenizers.Tokenizer, num_rows: int) -> tokenizers.Tokenizer:
    state = json.loads(backend.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["id"] < num_rows]
    # Prompts get their surroundings from the vocabulary; this part could name a token that is gone.
    state["post_processor"] = None
    _cut_model(state["model"], num_rows)
    unknown = state["model"].get("unk_token")
    if unknown is not None and unknown not in state["model"]["vocab"]:
        return backend  # without it any text with an unknown character is an error
    try:
        cut = tokenizers.Tokenizer.from_str(json.dumps(state))
    except Exception:  # `tokenizers` raises the bare class: the model needs a token that is gone
        return backend
    whole = backend.get_vocab(with_added_tokens=True)
    kept = {text: token_id for text, token_id in whole.items() if token_id < num_rows}
    return cut if cut.get_vocab(with_added_tokens=True) == kept else backend


def _cut_model(model: dict[str, Any], num_rows: int) -> None:
    """Take the tokens behind the last row out of the state of a `tokenizers` model."""
    vocab = model["vocab"]
    if isinstance(vocab, list):  # Unigram: a token's id is its place
        del vocab[num_rows:]
        return
    model["vocab"] = kept = {text: i for text, i in vocab.items() if i < num_rows}
    if "merges" in model:  # BPE
        prefix = model.get("continuing_subword_prefix") or ""
        pairs = [
            merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]
        ]
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if left in kept and right in kept and left + right.removeprefix(prefix) in kept
        ]
