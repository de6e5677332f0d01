"""Changes each field of a tiny model's config.json, and compares what comes of it.

Every field is one that we refuse, or our results follow transformers' of the changed file: because
both use the field, or neither. Knows no family: fields and what they may be come from the
configuration class.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor

from backend.config.architectures import load_family
from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.load import load_config
from backend.engine.engine import Engine

# What a field may be called that chooses a function, and which there are.
_WORDS = {
    "act": ("gelu", "relu", "silu", "gelu_pytorch_tanh", "gelu_new", "relu2", "quick_gelu"),
    "topk_method": ("greedy", "group_limited_greedy", "noaux_tc"),
    "scoring_func": ("softmax", "sigmoid"),
    "feed_forward_proj": ("relu", "gated-gelu", "gated-silu", "gelu"),
    "position_embedding_type": ("absolute", "relative_key", "rotary"),
    "rope_type": ("linear", "dynamic", "default"),
    "classifier_pooling": ("cls", "mean"),
}
# What says how a file came about or how a class runs it, and shapes no computation.
_NO_MATH = frozenset(
    "architectures model_type transformers_version dtype torch_dtype _name_or_path "
    "_attn_implementation _experts_implementation output_attentions output_hidden_states "
    "return_dict use_cache id2label label2id problem_type quantization_config "
    # Of what the model sees or hears with, which is not served.
    "vision_config audio_config cache_implementation".split()
)
_OBJECTS = ("rope_parameters", "rope_scaling", "layer_types")
REMOVED: Any = object()
Outcome = Literal["refused", "used", "harmless", "unloadable", "ignored"]


@dataclass(frozen=True, slots=True)
class Change:
    """One field, by its path through nested objects, and what it is set to."""

    path: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        value = "(absent)" if self.value is REMOVED else json.dumps(self.value)
        return f"{'.'.join(self.path)} = {value}"

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with this change; those given stay as they are."""
        changed: dict[str, Any] = json.loads(json.dumps(dict(values)))
        place = changed
        for name in self.path[:-1]:
            place = place[name]
        if self.value is REMOVED:
            place.pop(self.path[-1], None)
        else:
            place[self.path[-1]] = self.value
        return changed


@dataclass
class Subject:
    """A model on disk, and the two ways to its results, both of a directory.

    theirs: raises whatever transformers does. ours: of an engine. num_tokens: of a sequence.
    """

    directory: Path
    values: dict[str, Any]
    config_class: Any
    theirs: Callable[[Path], Tensor]
    engine_of: Callable[[Path], Engine]
    ours: Callable[[Engine], Tensor]
    num_tokens: int

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        first = self.write(self.values)
        with _reading() as self._read:
            self.base_config = load_config(first)
        self.expected = self.theirs(first)
        self.base = self.ours(self.engine_of(first))
        torch.testing.assert_close(self.base, self.expected, rtol=1e-4, atol=1e-4)

    def write(self, values: Mapping[str, Any]) -> Path:
        """Write a config.json beside the same weights; return the directory."""
        path = self.directory
        (path / "config.json").write_text(json.dumps(values))
        return path

    def changes(self) -> Iterator[Change]:
        """Yield every field, in a few other values each."""
        yield from changes_of(self.values, self.config_class)
        # What we read or let pass, and their class does not know.
        family = load_family(self.base_config.family)
        names = {family.aliases.get(name, name): name for name in family.aliases}
        known = {
            *self.values,
            *self.values.get("text_config", {}),
            *_hints(self.config_class),
            *_NO_MATH,
        }
        place = ("text_config",) if "text_config" in self.values else ()
        for name in sorted({names.get(n, n) for n in self._read | family.harmless} - known):
            if name not in getattr(self.config_class, "attribute_map", {}):
                for value in () if name.startswith(_OBJECTS) else (True, False, 8, 0.5):
                    yield Change((*place, name), value)

    def outcome(self, change: Change) -> tuple[Outcome, str]:
        """Return what comes of a change, and a word on it."""
        path = self.write(change.of(self.values))
        try:
            config = load_config(path)
            same = config == self.base_config
            if config.max_model_len < self.num_tokens:
                return "refused", "a sequence of so many tokens"
            ours = self.base if same else self.ours(self.engine_of(path))
        except ModelError as exc:
            return "refused", str(exc).replace(f"{path}/config.json: ", "")
        try:
            theirs = self.theirs(path)
        except Exception as exc:
            kind = "as if unchanged" if torch.equal(ours, self.base) else "otherwise"
            return "unloadable", f"we go on {kind}; transformers: {type(exc).__name__}: {exc}"
        if theirs.shape == ours.shape and torch.allclose(ours, theirs, rtol=3e-4, atol=3e-4):
            changed = not torch.allclose(theirs, self.expected, rtol=1e-5, atol=1e-5)
            return ("used" if changed else "harmless"), ""
        if theirs.shape != ours.shape:
            return "ignored", f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
        moved = [
            float((a - b).abs().max()) for a, b in ((ours, self.base), (theirs, self.expected))
        ]
        return "ignored", f"ours moves by {moved[0]:.2g}, transformers' by {moved[1]:.2g}"


@contextmanager
def _reading() -> Iterator[set[str]]:
    """Collect the fields that are read of a config.json, by their common names."""
    names: set[str] = set()
    read = Fields.raw

    def watched(fields: Fields, name: str, default: Any = None) -> Any:
        names.add(name)
        return read(fields, name, default)

    with patch.object(Fields, "raw", watched):
        yield names


def changes_of(
    values: Mapping[str, Any], config_class: Any, path: tuple[str, ...] = ()
) -> Iterator[Change]:
    """Yield the fields that a class and its file have, in a few other values each."""
    hints = _hints(config_class)
    for name in [*values, *(hint for hint in hints if hint not in values)]:
        if name in _NO_MATH or name.startswith("_"):
            continue
        value = values.get(name)
        if isinstance(value, dict) and value:
            inner = getattr(config_class, "sub_configs", {}).get(name) if config_class else None
            yield from changes_of(value, inner, (*path, name))
            continue
        for other in _others(name, value, hints.get(name)):
            yield Change((*path, name), other)
        if name in values:
            yield Change((*path, name), REMOVED)


def _hints(config_class: Any) -> dict[str, Any]:
    if config_class is None or not dataclasses.is_dataclass(config_class):
        return {}
    return {each.name: each.type for each in dataclasses.fields(config_class)}


def _others(name: str, value: Any, hint: Any) -> list[Any]:
    """Return a few other values of a field that a file might well have."""
    found: list[Any] = []
    match value:
        case bool():
            found = [not value]
        case int():
            found = [value + 1, 2 * value, value // 2, 3]
        case float() if abs(value) < 0.01:
            found = [0.2, 1.5]
        case float():
            found = [value / 50 if abs(value) > 100 else 1.5 * value + 0.1, 0.3]
        case str():
            found = _words(name, hint)
        case [bool(), *_]:
            found = [[not each for each in value]]
        case [int() | float(), *_]:
            found = [[each + 1 for each in value], value[::-1]]
        case [str(), *_]:
            found = [value[::-1], value[1:] + value[:1], [value[0]] * len(value)]
        case None | [] | {}:
            found = _of_hint(name, hint)
    return [each for n, each in enumerate(found) if each != value and each not in found[:n]]


def _of_hint(name: str, hint: Any) -> list[Any]:
    kinds = set(_kinds(hint))
    found: list[Any] = []
    if bool in kinds:
        found += [True, False]
    if int in kinds:
        found += [8, 1]
    if float in kinds:
        found += [0.5, 3.0]
    if str in kinds:
        found += _words(name, hint)
    if list in kinds:
        found += [[1], [0, 1]]
    if dict in kinds and "rope" in name:
        found += [
            {"rope_type": "linear", "factor": 4.0},
            {"rope_type": "default", "rope_theta": 9.0},
        ]
    return found


def _words(name: str, hint: Any) -> list[str]:
    literal = [each for each in _kinds(hint) if isinstance(each, str)]
    known = next((words for part, words in _WORDS.items() if part in name), ())
    return [*literal, *known]


def _kinds(hint: Any) -> Iterator[Any]:
    """Yield the types that a hint is made of, and the words of a literal."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        yield from typing.get_args(hint)
    elif origin in (typing.Union, types.UnionType):
        for each in typing.get_args(hint):
            yield from _kinds(each)
    elif hint is not None:
        yield origin or hint
