"""What becomes of a text's hidden states where a model does not generate: a vector, or a score.

Data alone, no torch and no files; sentence_transformers.py reads it out of a directory.
"""

from typing import Literal

import msgspec

# What a model is served for; "auto": what its files say.
Task = Literal["auto", "generate", "embed", "rerank"]
# Which hidden states are taken, as sentence-transformers calls it. weightedmean: token i counts
# i times, from 1. mean_sqrt_len_tokens: the sum over the square root of the number of tokens.
PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


class Dense(msgspec.Struct, frozen=True):
    """A linear layer behind the pooling, whose weights are a file of their own.

    folder: of the model's directory, with model.safetensors.
    """

    folder: str
    in_features: int
    out_features: int
    has_bias: bool = True
    activation: Literal["tanh", "identity", "gelu", "relu", "sigmoid"] = "tanh"


class Pooling(msgspec.Struct, frozen=True):
    """From the hidden states of a sequence to what its caller gets.

    embed: those of several modes stand one behind the other; then come the dense layers, then, if
    is_normalized, the vector is divided by its length.
    rerank: of an encoder's first token its classifier, or of a decoder's last one the logit of
    answer_ids[0] less that of answer_ids[1] ("yes" and "no"); then the sigmoid, unless is_raw.
    skipped_id: the last token is the last that is not this one, or the first.
    """

    task: Literal["embed", "rerank"]
    modes: tuple[PoolingMode, ...] = ()
    dense: tuple[Dense, ...] = ()
    is_normalized: bool = False
    answer_ids: tuple[int, ...] = ()
    is_raw: bool = False
    skipped_id: int | None = None

    @property
    def takes_one_token(self) -> bool:
        """Whether one hidden state of a sequence counts, its first or its last."""
        return self.modes in (("cls",), ("lasttoken",))

    def width(self, hidden_size: int) -> int:
        """Return the length of the vectors; 1 for scores."""
        if self.task == "rerank":
            return 1
        return self.dense[-1].out_features if self.dense else hidden_size * len(self.modes)
