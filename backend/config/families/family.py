"""What a family of models is: names, fields, a spec."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backend.config.fields import Fields, FileKind
from backend.config.sources import Names
from backend.config.spec import DecoderSpec, EncoderSpec


@dataclass(frozen=True, slots=True)
class Family:
    """A family, as data.

    huggingface: what "architectures" of config.json calls its models. gguf: what
    "general.architecture" of GGUF files calls them. spec: a file's fields -> what is computed.
    aliases: this family's name of a field of config.json -> the common one. defaults: what a
    config.json means that lacks a field, by common names. harmless: fields that change nothing
    here, beside those that change nothing anywhere. tie_word_embeddings: what a config.json that
    does not say means. copies: tensors of Hugging Face's files that must be one embedding.
    own_fields: of GGUF files, what is checked for all other families and read here.
    models: some that people know. checked: how it was, beside what holds for every family (see
    `unisono models`).
    """

    name: str
    huggingface: tuple[str, ...]
    gguf: tuple[str, ...]
    spec: Callable[[Fields], DecoderSpec | EncoderSpec]
    hf_names: Names
    gguf_names: Names
    aliases: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    harmless: frozenset[str] = frozenset()
    tie_word_embeddings: bool = False
    copies: tuple[str, ...] = ()
    own_fields: frozenset[str] = frozenset()
    models: str = ""
    checked: str = ""

    def names(self, kind: FileKind) -> Names:
        """Return what files of a kind call the tensors."""
        return self.gguf_names if kind == "gguf" else self.hf_names
