"""What every tokenizer file comes down to, whatever its format.

Owns the shape that the loaders of this package fill and the error they raise. Knows nothing of
files, requests or incremental decoding. Read by `gateway/text/tokenizer.py` only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import tokenizers

from gateway.text.vocab.charsmap import CharsMap
from gateway.text.vocab.pair_form import PairForm


class TokenizerError(ValueError):
    """A tokenizer file that cannot be used, or text that cannot be encoded; one line, for users."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The `tokenizers` object that splits text, and what the model's files say beside it.

    backend: encodes without adding anything; prefix_ids and suffix_ids are what the model wants
    around a prompt (begin- and end-of-sequence ids, mostly).
    eos_token_id: what the model's files call its end of sequence.
    other_ids: of further tokens that the files name, by transformers' names: pad_token, unk_token.
    eos_token_ids: every id after which a model of this vocabulary has nothing more to say.
    pair_form: how two texts become one input; None where the model takes no pairs.
    charsmap: what a text becomes before the backend takes it, special tokens left alone.
    """

    backend: tokenizers.Tokenizer
    bos_token_id: int | None
    eos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    pair_form: PairForm | None = None
    charsmap: CharsMap | None = None
    other_ids: Mapping[str, int] = field(default_factory=dict)
