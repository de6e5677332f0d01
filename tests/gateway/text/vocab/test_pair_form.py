"""Two texts as one input, and how they are cut to fit."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from gateway.text.vocab.pair_form import PairForm, TokenizedPair, pair_form_of

VOCAB = {text: i for i, text in enumerate(["a", "b", "[CLS]", "[SEP]"])}
FORM = PairForm(((2, 0),), ((3, 0),), ((3, 1),), first_type=0, second_type=1)


def backend() -> tokenizers.Tokenizer:
    own = tokenizers.Tokenizer(models.WordLevel(VOCAB, unk_token="a"))
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return own


def with_template() -> tokenizers.Tokenizer:
    own = backend()
    own.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return own


def test_form_is_that_of_the_post_processor() -> None:
    assert pair_form_of(with_template()) == FORM
    own = backend()
    own.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    assert pair_form_of(own) == PairForm(((2, 0),), ((3, 0), (3, 0)), ((3, 0),))
    assert pair_form_of(backend()) == PairForm((), (), (), 0, 1)


def test_segments_are_those_of_the_form() -> None:
    assert FORM.join([0, 0], [1], None) == TokenizedPair([2, 0, 0, 3, 1, 3], [0, 0, 0, 0, 1, 1])


@given(st.integers(0, 9), st.integers(0, 9), st.integers(3, 25))
def test_pair_is_cut_as_tokenizers_cuts_the_longest_first(
    num_first: int, num_second: int, max_length: int
) -> None:
    own = with_template()
    own.enable_truncation(max_length, strategy="longest_first")
    theirs = own.encode("a " * num_first, "b " * num_second)
    pair = FORM.join([0] * num_first, [1] * num_second, max_length)
    assert (pair.ids, pair.type_ids) == (theirs.ids, theirs.type_ids)


def test_length_without_room_for_special_tokens_is_refused() -> None:
    assert FORM.join([0], [1], 3).ids == [2, 3, 3]
    with pytest.raises(ValueError, match="2 tokens are too few: a pair has 3 special tokens"):
        FORM.join([0], [1], 2)
