"""Makes a directory of a model that has no weights: `--load-format dummy`.

What is served from it has the shapes of a name of the catalogue, a config.json or a directory, and
random weights. So a machine can be measured with a model that is not on it. Called by `unisono
serve` and `bench engine` before any process is spawned.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import tokenizers

from backend.config.dummy import MARK
from backend.config.hf_directory import read_json
from backend.config.huggingface import config_of_fields
from gateway.default_model import ModelNotFound, cache_directory
from gateway.hub import is_hub_name
from gateway.planning.catalogue import find_entry, nearest_names

_SPECIAL = ["<unk>", "<s>", "</s>"]
# What a directory may have beside config.json that texts need.
_OF_TEXT = ("tokenizer*", "special_tokens_map.json", "generation_config.json", "chat_template*",
            "vocab.json", "merges.txt", "added_tokens.json")  # fmt: skip


def dummy_directory(model: str) -> Path:
    """Return a directory of a model's shapes, in the cache; it is made where it is not there.

    model: a name of the catalogue, a config.json or a directory with one, whose tokenizer is taken
    over; else one of bytes is made. Raises ModelNotFound, ModelError.
    """
    name, fields, source = _shape_of(model)
    texts = sorted(path for each in _OF_TEXT for path in source.glob(each)) if source else []
    told = [json.dumps(fields, sort_keys=True).encode(), *(path.read_bytes() for path in texts)]
    key = hashlib.sha256(b"".join(told)).hexdigest()[:8]
    directory = cache_directory() / "dummy" / key / name
    if (directory / MARK).exists():
        return directory
    vocab_size = config_of_fields(fields, name).vocab_size
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=directory.parent))
    try:
        for path in texts:
            shutil.copy2(path, made)
        if not any(made.glob("tokenizer*")):
            _write_tokenizer(made, vocab_size)
        (made / "config.json").write_text(json.dumps(fields, indent=1))
        (made / MARK).touch()
        shutil.rmtree(directory, ignore_errors=True)
        made.rename(directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return directory


def _shape_of(model: str) -> tuple[str, dict[str, Any], Path | None]:
    """Return a model's name, the fields of its config.json, and where its texts' files may be."""
    path = Path(model).expanduser()
    if model and not is_hub_name(model):
        config = path / "config.json" if path.is_dir() else path
        if config.suffix != ".json" or not config.exists():
            raise ModelNotFound(
                f"{path}: has no config.json, whose shapes --load-format dummy would take\n"
                "give a directory with one, a config.json, or a name of `unisono plan --list`"
            )
        name = path.name if path.is_dir() else path.resolve().parent.name
        return name, read_json(config, dict[str, Any]), config.parent
    if entry := find_entry(model):
        return entry.name, entry.config, None
    near = nearest_names(model)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ModelNotFound(
        f"--load-format dummy knows no shape {model or '(none named)'}{meant}\n"
        "`unisono plan --list` shows those it knows; or give a config.json"
    )


def _write_tokenizer(directory: Path, vocab_size: int) -> None:
    """Write a tokenizer of bytes, filled up to the vocabulary so that every id is some text."""
    pieces = _SPECIAL + sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pieces += [f"Ġ{number}" for number in range(vocab_size - len(pieces))]
    vocab = {piece: index for index, piece in enumerate(pieces[:vocab_size])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.save(str(directory / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(fields))
