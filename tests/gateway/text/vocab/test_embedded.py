"""Tokens behind the model's last row: text that spells one is plain characters."""

from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from gateway.default_model import default_model
from gateway.text.tokenizer import Tokenizer, TokenizerError
from gateway.text.vocab.pair_form import PairForm
from gateway.text.vocab.vocabulary import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz<>/"


def bpe() -> tokenizers.Tokenizer:
    """Letters and three merges, the last of which makes the last token."""
    vocab = {text: i for i, text in enumerate([*LETTERS, "th", "in", "ink"])}
    merges = [("t", "h"), ("i", "n"), ("in", "k")]
    return tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))


def word_piece() -> tokenizers.Tokenizer:
    vocab = {text: i for i, text in enumerate(["[UNK]", *LETTERS, *(f"##{c}" for c in LETTERS)])}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    return backend


def unigram() -> tokenizers.Tokenizer:
    pieces = [("[UNK]", -20.0), *((letter, -5.0) for letter in LETTERS), ("think", -1.0)]
    return tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))


def vocabulary(backend: tokenizers.Tokenizer, **changes: object) -> Vocabulary:
    fields: dict[str, object] = {
        "bos_token_id": None,
        "eos_token_id": None,
        "eos_token_ids": (),
        "prefix_ids": (),
        "suffix_ids": (),
    }
    return Vocabulary(backend=backend, **(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("make", [bpe, word_piece, unigram])
def test_added_token_without_row_is_characters(make: type, special: bool) -> None:
    backend = make()
    num_rows = backend.get_vocab_size()
    backend.add_tokens([AddedToken("<think>", special=special, normalized=False)])
    tokenizer = Tokenizer(vocabulary(backend), num_rows)
    assert tokenizer.tokens_without_rows == ["<think>"]
    for parse_special in (True, False):
        ids = tokenizer.encode("a<think>b", parse_special=parse_special)
        assert ids == make().encode("a<think>b", add_special_tokens=False).ids
        assert max(ids) < num_rows
    assert tokenizer.encode(tokenizer.escape("<think>")) == tokenizer.encode("<think>")
    assert tokenizer.vocab_size == num_rows


@pytest.mark.parametrize("make", [bpe, unigram])
def test_own_token_without_row_is_put_together_from_others(make: type) -> None:
    whole = Tokenizer(vocabulary(make()))
    num_rows = whole.vocab_size - 1
    assert max(whole.encode("think")) == num_rows
    cut = Tokenizer(vocabulary(make()), num_rows)
    assert max(cut.encode("think")) < num_rows
    assert cut.decode(cut.encode("think")).replace(" ", "") == "think"


def test_tokenizer_within_the_rows_is_left_alone() -> None:
    path = default_model()
    plain, checked = Tokenizer.load(path), Tokenizer.load(path, 49152)
    assert checked.tokens_without_rows == []
    text = "<|im_start|>user\nWhat is 7 times 6?<|im_end|>\n"
    assert checked.encode(text) == plain.encode(text)


def test_default_model_with_fewer_rows_never_gives_their_ids() -> None:
    """The last token of SmolLM2's own vocabulary and all that are made of it are cut."""
    tokenizer = Tokenizer.load(default_model(), 40000)
    assert len(tokenizer.tokens_without_rows) == 49152 - 40000
    text = (Path(__file__).parents[3] / "data/questions.txt").read_text()
    ids = tokenizer.encode(text)
    assert max(ids) < 40000
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.pieces()) <= 40000


def test_surroundings_and_ends_without_rows_are_dropped() -> None:
    backend = bpe()
    num_rows = backend.get_vocab_size()
    backend.add_special_tokens(["<s>", "</s>"])
    fields = {"bos_token_id": num_rows, "eos_token_id": num_rows + 1}
    ends = {"eos_token_ids": (3, num_rows + 1), "prefix_ids": (num_rows,), "suffix_ids": (2,)}
    tokenizer = Tokenizer(vocabulary(backend, **fields, **ends), num_rows)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, None)
    assert tokenizer.eos_token_ids == (3,)
    assert tokenizer.encode("a") == [0, 2]


def test_form_of_pairs_needs_all_its_tokens() -> None:
    backend = bpe()
    num_rows = backend.get_vocab_size()
    backend.add_special_tokens(["<s>", "</s>"])
    for separator, is_kept in ((2, True), (num_rows, False)):
        form = PairForm(((1, 0),), ((separator, 0),), ((2, 0),))
        tokenizer = Tokenizer(vocabulary(backend, pair_form=form), num_rows)
        if is_kept:
            assert tokenizer.encode_pair("a", "b").ids == [1, 0, 2, 1, 2]
        else:
            with pytest.raises(TokenizerError, match="no form for a pair"):
                tokenizer.encode_pair("a", "b")


def test_backend_that_cannot_be_cut_refuses_the_text() -> None:
    """A model whose unknown token has no row needs it; text that would give such ids is refused."""
    vocab = {text: i for i, text in enumerate([*"abc", "[UNK]"])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.normalizer = normalizers.Lowercase()
    backend.post_processor = processors.TemplateProcessing("$A", special_tokens=[])
    tokenizer = Tokenizer(vocabulary(backend), 3)
    assert tokenizer.encode("A b") == [0, 1]
    with pytest.raises(TokenizerError, match=r"no embedding for its token '\[UNK\]'"):
        tokenizer.encode("a z")
