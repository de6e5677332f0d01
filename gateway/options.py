"""Reads the fields of a settings Struct as options: one declaration, every way to set it.

A field `max_num_seqs` is the flag --max-num-seqs, the variable UNISONO_MAX_NUM_SEQS and the file
key max_num_seqs; its type, range, default and description come from the Struct alone. Owns the
words that refuse a value. Knows no particular setting.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import inspect

from gateway.foreign_settings import meant_instead
from gateway.sizes import EXAMPLES, whole_number

VARIABLE_PREFIX = "UNISONO_"

S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A setting is unknown or out of range. The message names the place it was set in."""


@dataclass(frozen=True, slots=True)
class Option:
    """One field of a settings Struct, ready for a command line, an environment or a file.

    annotation: what msgspec converts to, its Meta included; kind: the same, taken apart.
    """

    name: str
    annotation: object
    kind: inspect.Type
    default: object
    description: str
    group: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    @property
    def is_switch(self) -> bool:
        return isinstance(self.kind, inspect.BoolType)

    @property
    def is_object(self) -> bool:
        """Whether it is written as a JSON object, or as a table of the file."""
        return isinstance(self.kind, inspect.StructType | inspect.DictType)

    @property
    def is_size(self) -> bool:
        """Whether it is a number of bytes."""
        return isinstance(self.kind, inspect.IntType) and self.name.endswith("_bytes")

    def read(self, text: object, source: str) -> object:
        """Convert text, or the answer of a switch, to this field's type.

        Integers may have a suffix: 4k, 512MiB.
        source: where it was written, for the message of SettingsError.
        """
        if not isinstance(text, str):
            return self.check(text, source)
        text = text.strip()
        if self.is_object:
            return self._converted(_object(text), text, source, is_strict=True)
        if not isinstance(self.kind, inspect.VarTupleType):
            return self._converted(self._whole(text), text, source, is_strict=False)
        items = [item.strip() for item in text.split(",")] if text else []
        return self._converted(items, text, source, is_strict=False)

    def check(self, value: object, source: str) -> object:
        """Return `value`, which has a type already, or raise SettingsError as read() does."""
        return self._converted(self._whole(value), value, source, is_strict=True)

    def _whole(self, value: object) -> object:
        """Return what an integer with a suffix stands for; anything else as it is."""
        if not isinstance(value, str) or not isinstance(self.kind, inspect.IntType):
            return value
        found = whole_number(value, is_bytes=self.is_size)
        return value if found is None else found

    def _converted(self, value: object, given: object, source: str, *, is_strict: bool) -> object:
        try:
            return msgspec.convert(value, self.annotation, strict=is_strict)
        except msgspec.ValidationError as error:
            wanted = _expectation(inspect.type_info(self.annotation))
            wanted += f", or as in {EXAMPLES}" if self.is_size else ""
            # What is wrong inside an object cannot be seen from the whole of it.
            reason = f": {error}" if self.is_object and isinstance(value, dict) else ""
            raise SettingsError(f"{source} must be {wanted}, not {given!r}{reason}") from error


def options_of(settings: type[msgspec.Struct], group: str) -> list[Option]:
    """List the fields of a settings Struct; `group` serves those whose Meta names no other."""
    return [_option(field, group) for field in msgspec.structs.fields(settings)]


def read(kind: type[S], flags: Mapping[str, object]) -> S:
    """Return a settings Struct of what flags say, its defaults for the rest.

    Raises SettingsError, which names the flag, for a value that its field does not take.
    """
    options = {option.name: option for option in options_of(kind, "")}
    values = {name: options[name].read(value, options[name].flag) for name, value in flags.items()}
    return kind(**values)


def suggestion(unknown: str, known: Iterable[str], prefix: str = "") -> str:
    """Say which known name was probably meant, or nothing. prefix: what all of them begin with.

    What another server calls so goes before what is only spelled alike.
    """
    names = [name.removeprefix(prefix) for name in known]
    name = unknown.removeprefix(prefix)
    if meant := meant_instead(name, names, prefix):
        return meant
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _option(field: msgspec.structs.FieldInfo, group: str) -> Option:
    kind = inspect.type_info(field.type)
    description = ""
    if isinstance(kind, inspect.Metadata):
        description = (kind.extra_json_schema or {}).get("description", "")
        group = (kind.extra or {}).get("group", group)
        kind = kind.type
    default = field.default
    if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    return Option(field.name, field.type, kind, default, description, group)


def _object(text: str) -> object:
    """Return what a JSON text says, or the text itself, which then is no object either."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _expectation(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            return str((extra or {}).get("wanted") or _expectation(inner))
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.IntType():
            return "an integer" + _range(kind)
        case inspect.FloatType():
            return "a number" + _range(kind)
        case inspect.VarTupleType(item_type=item):
            return f"a list separated by commas, each {_expectation(item)}"
        case inspect.StrType(min_length=int()):
            return "text that is not empty"
        case _:
            return "text"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    return f" of {kind.ge} or more" if kind.ge is not None else ""
