"""Makes a ModelConfig of a Hugging Face directory.

Knows the fields of config.json and generation_config.json that every family has, and the places
they stand in. Never runs what a directory brings (`auto_map`). No torch. Called by
`config.load_config`.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from backend.config.architectures import HF_ARCHITECTURES, load_family
from backend.config.assemble import make_config
from backend.config.dummy import is_dummy
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.foreign import ModelImpl
from backend.config.foreign_classes import check_class
from backend.config.foreign_fields import ALIASES, check_can_be_foreign, make_foreign_config
from backend.config.hf_directory import Inventory, read_json, take_inventory
from backend.config.model_config import ModelConfig
from backend.config.pooling import Task
from backend.config.quantization import Quantization
from backend.config.quantization_methods import quantization_of, read_quantization
from backend.config.sentence_transformers import with_task
from backend.config.tasks import default_embedder


class _GenerationConfig(msgspec.Struct):
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None


class _TextKind(msgspec.Struct):
    model_type: str | None = None


class _Kind(msgspec.Struct):
    architectures: list[str] | None = None
    model_type: str | None = None
    text_config: _TextKind | None = None


def read_config(
    directory: Path, model_impl: ModelImpl = "auto", task: Task = "auto"
) -> ModelConfig:
    """Read the configuration of a directory, and check the front of its weight files.

    model_impl: whose code is to serve it. task: what the operator wants of the model; "auto": what
    its files say.
    """
    path = directory / "config.json"
    if not path.exists():
        raise ModelError(_no_config(directory))
    # Read first: another family lacks the fields of a Llama, and its name is the better message.
    architecture = _architecture(read_json(path, _Kind))
    family = _family(str(path), architecture, model_impl)
    values: dict[str, Any] = read_json(path, dict[str, Any])
    if is_dummy(directory):
        return config_of_fields(values, _model_name(directory))
    quantization = quantization_of(directory)
    _check_experts(str(path), architecture, family, quantization)
    inventory = take_inventory(directory, quantization)
    generation = _read_generation_config(directory)
    try:
        if family is None:
            text = values.get("text_config")
            text_type = text.get("model_type") if isinstance(text, dict) else None
            check_class(architecture, values.get("model_type"), text_type)
            if task not in ("auto", "generate"):
                raise ModelError(
                    f"--task {task}: models that transformers' own code serves generate text alone"
                )
        whole = values
        values, notes = _of_the_decoder(whole)
        source = _Source(_model_name(directory), generation, notes, whole.keys())
        config = _make(architecture, family, values, inventory, source)
        return config if family is None else with_task(directory, config, values, task)
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from None


def config_of_fields(fields: Mapping[str, Any], name: str) -> ModelConfig:
    """Make a configuration of config.json alone, of a model whose weights are elsewhere.

    fields: what config.json says. name: what messages and the configuration call it. What only the
    files beside it tell stays unknown: special ids of generation_config.json, a pooling other than
    its kind's own. Raises ModelError.
    """
    try:
        kind = msgspec.convert(fields, _Kind)
    except msgspec.ValidationError as exc:
        raise ModelError(f"{name}: {exc}") from None
    architecture = _architecture(kind)
    family = _family(name, architecture, "unisono")
    values, notes = _of_the_decoder(dict(fields))
    dtype = str(values.get("dtype") or values.get("torch_dtype") or "float32")
    try:
        quantization = read_quantization(fields)
        inventory = Inventory({}, quantization.name if quantization else dtype, {})
        source = _Source(name, _GenerationConfig(), notes, fields.keys())
        config = _make(architecture, family, values, inventory, source)
        if config.sees_ahead:
            return config.pooled(*default_embedder(config, "no file says how"))
        return config
    except ModelError as exc:
        raise ModelError(f"{name}: {exc}") from None


@dataclass(frozen=True, slots=True)
class _Source:
    """What is known beside config.json's fields."""

    name: str
    generation: _GenerationConfig
    notes: tuple[str, ...]
    outer: Collection[str] = ()  # what the object around the decoder's has


def _of_the_decoder(values: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields that the decoder goes by, and a note if there is more than a decoder."""
    text = values.get("text_config")
    if not isinstance(text, dict):
        return values, ()
    # What describes the whole of a model that also sees or hears is not what its decoder is.
    notes = ["served as text only: what it sees or hears with is left out"]
    both = values.keys() & text.keys() - _OF_THE_WHOLE - _OF_EACH
    if differ := sorted(name for name in both if values[name] != text[name]):
        notes.append(f"text_config counts, not what config.json has beside it: {', '.join(differ)}")
    return text | {key: values[key] for key in _OF_THE_WHOLE & values.keys()}, tuple(notes)


def _check_experts(
    where: str, architecture: str, family: Family | None, quantization: Quantization | None
) -> None:
    if family is None and quantization and quantization.method == "mxfp4":
        raise ModelError(
            f"{where}: experts in MXFP4 are read by our own decoder alone, and transformers' code"
            f" would serve {architecture}\n"
            "leave --model-impl out, or take the model in bfloat16 or a GGUF file of it"
        )


def _make(
    architecture: str,
    family: Family | None,
    values: Mapping[str, Any],
    inventory: Inventory,
    source: _Source,
) -> ModelConfig:
    """Make the configuration of the decoder's fields and the tensors that there are."""
    aliases = family.aliases if family else {n: c for n, c in ALIASES.items() if c not in values}
    renamed = _by_common_names(values, aliases)
    labels = {common: own for own, common in aliases.items()}
    defaults = family.defaults if family else {}
    beside = {aliases.get(name, name) for name in source.outer} - values.keys() - _OF_EACH
    fields = Fields("huggingface", renamed, inventory.shapes, labels, defaults, beside)
    end_ids = _end_ids(fields, source.generation)
    if (start_id := source.generation.decoder_start_token_id) is not None:
        fields.add("decoder_start_token_id", start_id)
    if family is None:
        return make_foreign_config(
            architecture,
            fields,
            name=source.name,
            eos_token_ids=end_ids,
            bos_token_id=_bos_id(fields),
            stored_dtype=inventory.dtype,
            notes=source.notes,
        )
    _check_copies(family, inventory)
    return make_config(
        family,
        fields,
        name=source.name,
        vocab_size=fields.integer("vocab_size"),
        tie_word_embeddings=_is_tied(family, fields, inventory),
        eos_token_ids=end_ids,
        bos_token_id=_bos_id(fields),
        stored_dtype=inventory.dtype,
        notes=source.notes,
    )


# Fields of the outer object that count, too, where the decoder has one of its own.
_OF_THE_WHOLE = {"tie_word_embeddings", "eos_token_id", "bos_token_id", "architectures"}
# Fields that a part has as the whole has them, each of its own.
_OF_EACH = {
    *("model_type", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "use_cache"),
    *("initializer_range", "pad_token_id", "quantization_config"),
}


# What stands for the name of a class where config.json gives none.
_UNNAMED = "model_type"


# The class of the whole is that of others as well: its name, and what its decoder is.
_BY_DECODER: dict[tuple[str, str | None], str] = {
    ("Mistral3ForConditionalGeneration", "mistral4"): "Mistral4ForCausalLM",
}


def _architecture(kind: _Kind) -> str:
    name = (kind.architectures or [f"{_UNNAMED} {kind.model_type!r}"])[0]
    if kind.text_config and (name, kind.text_config.model_type) in _BY_DECODER:
        return _BY_DECODER[name, kind.text_config.model_type]
    # A decoder without its head, as embedding models are kept, or with one that scores.
    if name in HF_ARCHITECTURES:
        return name
    bare = name.removesuffix("Model").removesuffix("ForSequenceClassification")
    heads = [f"{bare}{head}" for head in ("ForCausalLM", "LMHeadModel") if bare != name]
    return next((head for head in heads if head in HF_ARCHITECTURES), name)


# How the names of classes end that transformers has for other uses, and what these do.
_OTHER_USES = {
    "ForTokenClassification": "labels the tokens of a text",
    "ForQuestionAnswering": "marks an answer in a text",
    "ForMultipleChoice": "chooses between endings of a text",
    "ForNextSentencePrediction": "tells whether one text follows another",
    "ForSequenceClassification": "scores or labels texts, and is of a family that is not known",
    "ForMaskedLM": "fills gaps in a text, and is of a family that is not known",
}


def _family(where: str, architecture: str, model_impl: ModelImpl) -> Family | None:
    """Return the family whose spec serves a model; None if transformers' code does."""
    supported = list(HF_ARCHITECTURES)
    if architecture in HF_ARCHITECTURES and model_impl != "transformers":
        return load_family(HF_ARCHITECTURES[architecture])
    for ending, use in _OTHER_USES.items():
        if architecture.endswith(ending):
            known = [name for name in supported if name.endswith("ForMaskedLM")]
            raise ModelError(
                f"{where}: architecture {architecture} {use}; no endpoint here asks for that\n"
                "vectors of texts come from encoders, scores from their ForSequenceClassification "
                f"with one label:\n{', '.join(name.removesuffix('ForMaskedLM') for name in known)}"
            )
    if architecture.startswith(_UNNAMED):
        raise ModelError(f"{where}: {_no_class(architecture)}")
    if model_impl == "unisono":
        raise ModelError(
            f"{where}: architecture {architecture} is not supported by our own decoder, which "
            f"knows {', '.join(supported)}\nothers may be served with --model-impl auto, if "
            "config.json names the class in architectures"
        )
    check_can_be_foreign(architecture, supported)
    return None


def _no_class(unnamed: str) -> str:
    """Return what is said of a file without architectures."""
    kind = unnamed.removeprefix(_UNNAMED).strip(" '")
    own = [name for name, module in HF_ARCHITECTURES.items() if module == kind.replace("-", "_")]
    example = f': "architectures": ["{own[0]}"], perhaps' if own else ""
    return (
        "architectures is missing, so nobody knows which class the weights are of\n"
        f"name the class that has written them{example}"
    )


def _is_tied(family: Family, fields: Fields, inventory: Inventory) -> bool:
    """Whether the embedding is the head, too: a head in the file that says otherwise counts."""
    if not fields.flag("tie_word_embeddings", family.tie_word_embeddings):
        return False
    head, embedding = (_find(family, name, inventory) for name in ("lm_head", "model.embed_tokens"))
    return head is None or embedding is None or inventory.are_equal(head, embedding)


def _by_common_names(values: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields by common names. Raises ModelError where two names of one contradict."""
    renamed: dict[str, Any] = {}
    said_by: dict[str, str] = {}
    # The family's own names first: null counts, too, of GPT-2's n_inner beside intermediate_size.
    for name in sorted(values, key=lambda name: name not in aliases):
        common, value = aliases.get(name, name), values[name]
        other = renamed.get(common)
        if common not in renamed or (other is None and name in aliases):
            renamed[common], said_by[common] = value, name
        elif None not in (other, value) and other != value:
            raise ModelError(
                f"{said_by[common]} is {other!r} and {name} is {value!r}, which are two names of"
                " one field\nremove the one that is wrong"
            )
    return renamed


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


def _end_ids(fields: Fields, generation: _GenerationConfig) -> tuple[int, ...]:
    end_ids = fields.raw("eos_token_id")
    # Chat models end with more ids than pretraining had.
    if generation.eos_token_id is not None:
        end_ids = generation.eos_token_id
    if isinstance(end_ids, int):
        return (end_ids,)
    if not all(isinstance(end_id, int) for end_id in end_ids or ()):
        raise ModelError(f"eos_token_id is {end_ids!r}")
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
