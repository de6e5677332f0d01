"""What is known of a model that transformers' modelling code runs. Data alone, no torch."""

from typing import Literal

import msgspec

from backend.config.tensor_info import TensorInfo

# Whose code runs a model: ours where there is a family of its own, ours, transformers'.
ModelImpl = Literal["auto", "unisono", "transformers"]


class Foreign(msgspec.Struct, frozen=True):
    """A model without a family of ours, or one that is served as if it had none.

    architecture: its class in transformers. What follows only a rank finds out, which imports that
    class: tensors, by the files' names but for the ends of the vocabulary, which have ours; what
    the files call those, without .weight; a pattern of tensors that are left unread; fields of
    config.json that the class does not read.
    """

    architecture: str
    tensors: dict[str, TensorInfo] = {}
    embedding: str = ""
    head: str = ""
    ignored: str = "(?!)"
    unread: tuple[str, ...] = ()
