"""T5's and XLM-R's vocabulary in a GGUF file."""

from functools import cache
from typing import Any

import pytest

from gateway.text.tokenizer import Tokenizer, TokenizerError
from gateway.text.vocab.gguf import vocabulary_from_metadata
from tests.gateway.data import vocabularies
from tests.gateway.data.mixed_scripts import mixed_scripts

PAD, EOS, UNK, REPO = 0, 1, 2, 3


@cache
def pairs() -> dict[str, Any]:
    return vocabularies.unigram(mixed_scripts(), vocabularies.CHARSMAP.read_bytes())


def t5(**changes: Any) -> Tokenizer:
    own = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return Tokenizer(vocabulary_from_metadata(pairs() | own))


def spelled(tokenizer: Tokenizer, text: str, **options: Any) -> list[str]:
    tokens = pairs()["tokenizer.ggml.tokens"]
    return [tokens[i] for i in tokenizer.encode(text, add_special_tokens=False, **options)]


def test_text_ends_with_eos_and_begins_with_nothing() -> None:
    assert t5().encode("the")[-1] == EOS
    assert t5().encode("") == [EOS]
    assert t5(add_eos_token=False).encode("") == []
    assert t5().eos_token_ids == (EOS,)


def test_blanks_are_one_and_none_at_the_ends() -> None:
    assert spelled(t5(), "  the \n\t the  ") == spelled(t5(), "the the")
    assert t5().decode(t5().encode(" the  the ")) == "the the"
    kept = t5(remove_extra_whitespaces=False)
    assert "".join(spelled(kept, "the  the")) == "▁the▁▁the"


def test_unknown_characters_in_a_row_are_one_token() -> None:
    assert t5().encode("\U0003fff0\U0003fff1").count(UNK) == 1


def test_text_never_spells_a_control_token_unasked() -> None:
    """Control tokens are among a unigram model's pieces."""
    tokenizer = t5()
    assert tokenizer.encode("x</s>y").count(EOS) == 2
    assert tokenizer.encode("x</s>y", parse_special=False).count(EOS) == 1
    assert tokenizer.encode(tokenizer.escape("x</s>") + "</s>y").count(EOS) == 2
    assert "".join(spelled(tokenizer, "x</s>y", parse_special=False)) == "▁x</s>y"
    assert tokenizer.encode("a <repo_name>", parse_special=False)[-2] == REPO


def test_text_that_becomes_a_control_token_is_characters() -> None:
    assert "".join(spelled(t5(), "＜/s＞")) == "▁</s>"  # noqa: RUF001
    assert t5().encode("＜/s＞</s>").count(EOS) == 2  # noqa: RUF001


def test_pair_is_xlm_rs_with_bos_and_t5s_without() -> None:
    first, second = (t5().encode(text, add_special_tokens=False) for text in ("the", "fox"))
    assert t5().encode_pair("the", "fox").ids == [*first, EOS, *second, EOS]
    xlm_r = t5(add_bos_token=True, bos_token_id=PAD)
    pair = xlm_r.encode_pair("the", "fox")
    assert pair.ids == [PAD, *first, EOS, EOS, *second, EOS]
    assert set(pair.type_ids) == {0}


def test_half_a_surrogate_pair_is_refused_in_words() -> None:
    with pytest.raises(TokenizerError, match="not valid Unicode"):
        t5().encode("a\ud83db")


def test_vocabulary_without_a_map_keeps_its_characters() -> None:
    without = {key: value for key, value in pairs().items() if not key.endswith("charsmap")}
    tokenizer = Tokenizer(vocabulary_from_metadata(without))
    assert "…" in "".join(spelled(tokenizer, "…")) or UNK in tokenizer.encode("…")
    assert "".join(spelled(t5(), "…")) == "▁..."


def test_damaged_map_is_refused() -> None:
    with pytest.raises(ValueError, match="precompiled_charsmap"):
        t5(precompiled_charsmap=[1, 0, 0, 0, 5])
