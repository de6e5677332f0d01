"""The fields of quantization_config, checked as they are read.

As everywhere each is used, known to be harmless, or refused.
"""

from collections.abc import Mapping
from typing import Any

from backend.config.errors import ModelError


class QuantizationFields:
    """Fields of quantization_config, or of an object in it; `where` names it in messages."""

    def __init__(self, values: Mapping[str, Any], where: str = "quantization_config") -> None:
        self.where = where
        self._values = dict(values)
        self._used: set[str] = {"quant_method"}

    def get(self, name: str, default: Any = None) -> Any:
        self._used.add(name)
        value = self._values.get(name)
        return default if value is None else value

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"{self.where}.{name} is {value!r}, not an integer")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.where}.{name} is {value!r}, not true or false")
        return value

    def one_of(
        self, name: str, allowed: tuple[Any, ...], default: Any = None, hint: str = ""
    ) -> Any:
        """Return a field that must be one of those; letters may be large or small."""
        value = self.get(name, default)
        value = value.lower() if isinstance(value, str) else value
        # True equals 1, but is no number of bits.
        if isinstance(value, bool) or value not in allowed:
            choices = ", ".join(str(choice) for choice in allowed)
            raise ModelError(f"{self.where}.{name} {value!r} is not supported; {choices}{hint}")
        return value

    def objects(self, name: str) -> dict[str, "QuantizationFields"]:
        """Return a field of named objects."""
        value = self.get(name, {})
        if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
            raise ModelError(f"{self.where}.{name} is {value!r}, not an object of objects")
        return {
            key: QuantizationFields(inner, f"{self.where}.{name}.{key}")
            for key, inner in value.items()
        }

    def child(self, name: str) -> "QuantizationFields | None":
        """Return an object in a field; None if there is none."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ModelError(f"{self.where}.{name} is {value!r}, not an object")
        return QuantizationFields(value, f"{self.where}.{name}")

    def finish(self, harmless: str) -> None:
        """Refuse a field that says something and that nobody has looked at."""
        known = self._used | set(harmless.split())
        for name, value in self._values.items():
            if value not in (None, False, {}, []) and name not in known:
                raise ModelError(
                    f"{self.where}.{name} is not known, and may change what weights stand for\n"
                    "remove it if it changes nothing, or take a GGUF file of the model"
                )
