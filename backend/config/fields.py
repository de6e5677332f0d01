"""The fields of a model's configuration, whichever file they are from, and which were looked at.

Every field is used, known to be harmless, or refused: none is ignored in silence.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from backend.config.errors import ModelError, UnknownChoice

FileKind = Literal["huggingface", "gguf"]


class Fields:
    """Fields by Hugging Face's names, checked as they are read.

    kind: of the file. tensors: the shapes of the file's tensors, by its names. labels: what the
    file calls a field, for messages. defaults: what a field is that the file does not have; null is
    something that it says. beside: fields that the file has in another place, which is none of this
    model's.
    """

    def __init__(
        self,
        kind: FileKind,
        values: Mapping[str, Any],
        tensors: Mapping[str, tuple[int, ...]],
        labels: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        beside: Collection[str] = (),
    ) -> None:
        self.kind = kind
        self.tensors = tensors
        self._values = dict(values)
        self._labels = labels or {}
        self._defaults = defaults or {}
        self._beside = frozenset(beside)
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def add(self, name: str, value: object) -> None:
        """Add a field that stands elsewhere in the file."""
        self._values[name] = value

    def default(self, name: str, value: object) -> None:
        """Say what an absent field means; one that is null stays so."""
        self._values.setdefault(name, value)

    def raw(self, name: str, default: Any = None) -> Any:
        """Return a field as it is; `default` where it is absent or null."""
        self._used.add(name)
        value = self._values.get(name, self._defaults.get(name))
        return default if value is None else value

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an integer. Raises ModelError if it is none, or absent without a default."""
        value = self.raw(name, default)
        self._check_present(name, value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"{self.label(name)} is {value!r}, not an integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number. Raises ModelError if it is none, or absent without a default."""
        value = self.raw(name, default)
        self._check_present(name, value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(f"{self.label(name)} is {value!r}, not a number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean. Raises ModelError if it is none."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.label(name)} is {value!r}, not true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """Return a string. Raises ModelError if it is none."""
        value = self.raw(name, default)
        if not isinstance(value, str):
            raise ModelError(f"{self.label(name)} is {value!r}, not a string")
        return value

    def one_of(self, name: str, allowed: Collection[str], default: str) -> str:
        """Return a string that must be one of those."""
        value = self.text(name, default)
        if value not in allowed:
            choices = ", ".join(allowed)
            raise UnknownChoice(f"{self.label(name)} {value!r} is not supported; {choices}")
        return value

    def must_be(self, name: str, value: object, why: str) -> None:
        """Refuse a field that is given and is not `value`."""
        found = self.raw(name, value)
        if found != value:
            raise ModelError(f"{self.label(name)} is {found!r}: {why}")

    def harmless(self, names: Iterable[str]) -> None:
        """Let fields pass, whatever they say."""
        self._used.update(names)

    def label(self, name: str) -> str:
        """Return what the file calls a field."""
        return self._labels.get(name, name)

    def left(self) -> list[str]:
        """Return the fields that say something and that nobody has looked at."""
        return sorted(
            self.label(name)
            for name, value in self._values.items()
            if value is not None and name not in self._used
        )

    def astray(self) -> list[str]:
        """Return the fields that were looked for, and that the file has in another place alone."""
        found = self._used & self._beside - self._values.keys()
        return sorted(self.label(name) for name in found)

    def _check_present(self, name: str, value: object) -> None:
        if value is None:
            raise ModelError(f"{self.label(name)} is missing")
