"""Takes a model's class from transformers, and finds out what it needs: the one module that imports
transformers.

Owns which classes can be served, how one is built without weights, and which tensors of a directory
its parameters are. Never runs code that a directory brings. foreign_model.py serves what comes of
it, with our attention, linears, cache and head.
"""

import inspect
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from backend.config.assemble import HARMLESS
from backend.config.errors import ModelError
from backend.config.families.names import HF_IGNORED, TOWERS
from backend.config.foreign_classes import ALSO_SERVED, keeps_state, lets_nobody_attend
from backend.config.hf_directory import Inventory, read_json, take_inventory
from backend.config.model_config import ModelConfig
from backend.config.quantization_methods import quantization_of
from backend.models.foreign_attention import ATTENTION_NAME, attend
from backend.models.foreign_layout import Layout, cross_attention_layers, lay_out

# Construction sets what all of torch sees: one rank of a process (there are several in tests) at a
# time.
_construction = threading.Lock()


@dataclass(frozen=True, slots=True)
class Converted:
    """A parameter that is made of several tensors of the files. convert: their names and values ->
    parameters by name."""

    names: tuple[str, ...]
    converter: Any
    patterns: tuple[str, ...]
    parameter: str

    def convert(self, tensors: list[torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
        """Return parameters by name."""
        for name, pattern, tensor in zip(self.names, self.patterns, tensors, strict=True):
            self.converter.add_tensor(self.parameter, name, pattern, lambda tensor=tensor: tensor)
        made = self.converter.convert(self.parameter, model=model, config=model.config)
        return {
            name: value[0] if isinstance(value, list) else value for name, value in made.items()
        }


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model of transformers without weights.

    config: complete. causal: the class, its parameters on the meta device. layout: what of it is
    ours. converted: what is not read as it stands in the files.
    """

    config: ModelConfig
    causal: Any
    layout: Layout
    converted: list[Converted]


def build_skeleton(config: ModelConfig, directory: Path) -> Skeleton:
    """Build the class of a model, and complete its configuration. Raises ModelError."""
    assert config.foreign is not None, "a family of ours serves it"
    values = read_json(directory / "config.json", dict[str, Any])
    cls, values = _find_class(config.foreign.architecture, values)
    with _construction, _quiet():
        causal = _construct(cls, values)
    skipped = _leave_out_cross_attention(causal)
    inventory = take_inventory(directory, quantization_of(directory))
    names, converted = _file_names(causal, inventory)
    layout = lay_out(causal, config, names, converted, inventory)
    ignored = [HF_IGNORED, TOWERS, *skipped, *_ignored_patterns(causal)]
    assert layout.config.foreign is not None
    foreign = msgspec.structs.replace(
        layout.config.foreign, ignored="|".join(ignored), unread=_unread_fields(cls, values)
    )
    complete = msgspec.structs.replace(layout.config, foreign=foreign)
    return Skeleton(complete, causal, layout, converted)


def _find_class(architecture: str, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the class that serves a config.json, and the part of it that describes that."""
    try:
        import transformers
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except ImportError as error:
        raise ModelError(
            f"transformers cannot be imported here ({error})\n"
            "install it: pip install 'unisono[transformers]'"
        ) from None
    if isinstance(text := values.get("text_config"), dict):
        kind = text.get("model_type")
        # Of some the table knows the whole alone, by whose name the text's class is called, too.
        named = architecture.replace("ForConditionalGeneration", "ForCausalLM")
        own = getattr(getattr(transformers, named, None), "config_class", None)
        if getattr(own, "model_type", None) == kind:
            architecture = named
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, architecture)
        values = text | {k: v for k, v in values.items() if k == "tie_word_embeddings"}
    cls = getattr(transformers, architecture, None)
    if cls is None:
        remote = ", and code that a directory brings is never run" if "auto_map" in values else ""
        raise ModelError(
            f"architecture {architecture} is not known to transformers {transformers.__version__}"
            f"{remote}\na newer transformers, or a GGUF file of the model, may serve it"
        )
    if getattr(cls, "_is_stateful", False):
        raise ModelError(keeps_state(architecture))
    if not getattr(cls, "_supports_attention_backend", False) and architecture not in ALSO_SERVED:
        raise ModelError(lets_nobody_attend(architecture))
    if not hasattr(cls, "prepare_inputs_for_generation") or getattr(cls, "main_input_name", "") != (
        "input_ids"
    ):
        raise ModelError(f"transformers' {architecture} does not continue text")
    return cls, values


def _unread_fields(cls: Any, values: dict[str, Any]) -> tuple[str, ...]:
    """Return fields of a config.json that nothing of a class's source mentions.

    transformers keeps any field and says nothing of those that it does not read.
    """
    from transformers import configuration_utils, modeling_rope_utils

    kind = cls.config_class
    modules = [sys.modules[each.__module__] for each in (cls, kind)]
    sources = map(inspect.getsource, [*modules, configuration_utils, modeling_rope_utils])
    words = set(re.findall(r"\w+", " ".join(sources)))
    known = HARMLESS | kind.attribute_map.keys() | words
    return tuple(name for name, value in values.items() if value is not None and name not in known)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from advising whoever reads the log of a server."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


def _construct(cls: Any, values: dict[str, Any]) -> Any:
    """Return a model whose parameters are on the meta device, and whose buffers are computed."""
    from transformers.initialization import no_init_weights, no_tie_weights
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, attend)
    try:
        values = {name: v for name, v in values.items() if name != "quantization_config"}
        config = cls.config_class.from_dict(values)
        with no_init_weights(), no_tie_weights(), _parameters_on_meta():
            causal = cls._from_config(
                config, dtype=torch.float32, attn_implementation=ATTENTION_NAME
            )
    except Exception as error:  # whatever the class says of the configuration
        raise ModelError(
            f"transformers' {cls.__name__} does not take this configuration: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from None
    causal.config.return_dict = True
    return causal.eval().requires_grad_(False)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Have parameters take no memory, and buffers their values."""
    register = nn.Module.register_parameter

    def register_on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, param)
        if param is not None:
            on_meta = nn.Parameter(param.detach().to("meta"), requires_grad=False)
            self._parameters[name] = on_meta

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _file_names(causal: Any, inventory: Inventory) -> tuple[dict[str, str], list[Converted]]:
    """Return parameter -> the tensor of the files that it is, and those that are made of several.

    Names of old files are renamed as transformers does when it loads them.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        rename_source_key,
    )

    transforms = get_model_conversion_mapping(causal)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    wanted = causal.state_dict()
    names: dict[str, str] = {}
    groups: dict[str, list[tuple[str, str]]] = {}
    for file_name in sorted(inventory.shapes, key=_natural):
        if file_name in wanted:
            names[file_name] = file_name
            continue
        text_name = file_name.replace("language_model.model.", "model.", 1)
        text_name = text_name.replace("model.language_model.", "model.", 1)
        text_name = text_name.replace("language_model.lm_head.", "lm_head.", 1)
        target, pattern = rename_source_key(
            text_name, renamings, converters, causal.base_model_prefix, wanted
        )
        if pattern is None and target in wanted:
            names.setdefault(target, file_name)
        elif pattern is not None:
            groups.setdefault(target, []).append((file_name, pattern))
    converted = []
    for target, parts in groups.items():
        converter = next(c for c in converters if parts[0][1] in c.source_patterns)
        own = converter.copy(
            list(converter._original_source_patterns),
            list(converter._original_target_patterns),
            operations=converter.operations,
        )
        file_names, patterns = zip(*parts, strict=True)
        converted.append(Converted(file_names, own, patterns, target))
    return names, converted


def _leave_out_cross_attention(causal: Any) -> list[str]:
    """Take out the layers that a text is not run through; return patterns of their tensors."""
    left_out = cross_attention_layers(causal)
    for name in [name for name, _ in causal.named_modules()]:
        layer = re.fullmatch(r".*\.layers\.(\d+)", name)
        if layer and int(layer[1]) in left_out:
            causal.set_submodule(name, nn.Identity())
    return [rf".*\.layers\.{layer}\..*" for layer in sorted(left_out)]


def _ignored_patterns(causal: Any) -> list[str]:
    unread = getattr(causal, "_keys_to_ignore_on_load_unexpected", None) or []
    return [f".*(?:{pattern}).*" for pattern in unread]


def _natural(name: str) -> list[int | str]:
    """Sort experts.2 before experts.10."""
    return [(int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)]
