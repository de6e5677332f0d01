"""Makes a ModelConfig of a Hugging Face directory.

Knows the fields of config.json and generation_config.json that every family has, and the places
they stand in. Never runs what a directory brings (`auto_map`). No torch. Called by
`config.load_config`.
"""

import os
from pathlib import Path
from typing import Any

import msgspec

from backend.config.architectures import HF_ARCHITECTURES, load_family
from backend.config.assemble import make_config
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.hf_directory import Inventory, read_json, take_inventory
from backend.config.model_config import ModelConfig


class _GenerationConfig(msgspec.Struct):
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None


class _Kind(msgspec.Struct):
    architectures: list[str] | None = None
    model_type: str | None = None


def read_config(directory: Path) -> ModelConfig:
    """Read the configuration of a directory, and check the front of its weight files."""
    path = directory / "config.json"
    if not path.exists():
        raise ModelError(_no_config(directory))
    family = _family(path)
    values: dict[str, Any] = read_json(path, dict[str, Any])
    _check_quantization(path, values)
    notes: tuple[str, ...] = ()
    if isinstance(text := values.get("text_config"), dict):
        # What describes the whole of a model that also sees or hears is not what its decoder is.
        values = text | {key: values[key] for key in _OF_THE_WHOLE & values.keys()}
        notes = ("served as text only: what it sees or hears with is left out",)
    inventory = take_inventory(directory)
    values = {family.aliases.get(name, name): value for name, value in values.items()}
    labels = {common: own for own, common in family.aliases.items()}
    fields = Fields("huggingface", values, inventory.shapes, labels, family.defaults)
    generation = _read_generation_config(directory)
    end_ids = _end_ids(directory, fields, generation)
    if (start_id := generation.decoder_start_token_id) is not None:
        fields.add("decoder_start_token_id", start_id)
    try:
        _check_copies(family, inventory)
        return make_config(
            family,
            fields,
            name=_model_name(directory),
            vocab_size=fields.integer("vocab_size"),
            tie_word_embeddings=_is_tied(family, fields, inventory),
            eos_token_ids=end_ids,
            bos_token_id=_bos_id(fields),
            stored_dtype=inventory.dtype,
            notes=notes,
        )
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from None


# Fields of the outer object that count, too, where the decoder has one of its own.
_OF_THE_WHOLE = {"tie_word_embeddings", "eos_token_id", "bos_token_id", "architectures"}


def _family(path: Path) -> Family:
    # Read first: another family lacks the fields of a Llama, and its name is the better message.
    kind = read_json(path, _Kind)
    name = (kind.architectures or [f"model_type {kind.model_type!r}"])[0]
    if name not in HF_ARCHITECTURES:
        raise ModelError(
            f"{path}: architecture {name} is not supported.\n"
            f"Supported: {', '.join(HF_ARCHITECTURES)}"
        )
    return load_family(HF_ARCHITECTURES[name])


def _check_quantization(path: Path, values: dict[str, Any]) -> None:
    quantization = values.get("quantization_config")
    if quantization is not None:
        is_object = isinstance(quantization, dict)
        method = quantization.get("quant_method", "unknown") if is_object else quantization
        raise ModelError(
            f"{path}: weights are quantised with {method!r}, which is not supported.\n"
            "Take the unquantised model, or a GGUF file of it."
        )


def _is_tied(family: Family, fields: Fields, inventory: Inventory) -> bool:
    """Whether the embedding is the head, too: a head in the file that says otherwise counts."""
    if not fields.flag("tie_word_embeddings", family.tie_word_embeddings):
        return False
    head, embedding = (_find(family, name, inventory) for name in ("lm_head", "model.embed_tokens"))
    return head is None or embedding is None or inventory.are_equal(head, embedding)


def _find(family: Family, name: str, inventory: Inventory) -> str | None:
    """Return what the files call one of the model's own tensors; None if they have none."""
    return family.hf_names.find(name, "weight", inventory.shapes)


def _check_copies(family: Family, inventory: Inventory) -> None:
    """Refuse what should be the embedding once more and is something else."""
    found = [name for name in family.copies if f"{name}.weight" in inventory.shapes]
    for name in found[1:]:
        if not inventory.are_equal(f"{found[0]}.weight", f"{name}.weight"):
            raise ModelError(
                f"tensors {found[0]}.weight and {name}.weight differ: encoder and decoder would"
                " embed\ntokens each in its own way, which is not supported"
            )


def _bos_id(fields: Fields) -> int | None:
    value = fields.raw("bos_token_id")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ModelError(f"bos_token_id is {value!r}, not an integer")
    return value


def _read_generation_config(directory: Path) -> _GenerationConfig:
    """Read what generate() of transformers believes over config.json."""
    path = directory / "generation_config.json"
    return read_json(path, _GenerationConfig) if path.exists() else _GenerationConfig()


def _end_ids(directory: Path, fields: Fields, generation: _GenerationConfig) -> tuple[int, ...]:
    end_ids = fields.raw("eos_token_id")
    # Chat models end with more ids than pretraining had.
    if generation.eos_token_id is not None:
        end_ids = generation.eos_token_id
    if isinstance(end_ids, int):
        return (end_ids,)
    if not all(isinstance(end_id, int) for end_id in end_ids or ()):
        raise ModelError(f"{directory / 'config.json'}: eos_token_id is {end_ids!r}")
    return tuple(end_ids or ())


def _model_name(directory: Path) -> str:
    directory = Path(os.path.abspath(directory))
    # A snapshot in the hub's cache is named by its commit: models--org--name/snapshots/<commit>
    repository = directory.parent.parent.name
    if directory.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return directory.name


def _no_config(directory: Path) -> str:
    ggufs = sorted(directory.glob("*.gguf"))
    if ggufs:
        return f"{directory}: has no config.json; to serve its GGUF file give {ggufs[0]}"
    return (
        f"{directory}: has no config.json, so it is not a Hugging Face model directory\n"
        "give the directory that holds config.json and *.safetensors, or a .gguf file"
    )
