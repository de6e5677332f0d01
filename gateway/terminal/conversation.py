"""A conversation and what is asked with it. Knows neither servers nor terminals."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from gateway.options import suggestion

# What /set takes, with what a value must be.
FIELDS: dict[str, type] = {
    "temperature": float,
    "top_p": float,
    "min_p": float,
    "top_k": int,
    "max_tokens": int,
    "min_tokens": int,
    "seed": int,
    "repetition_penalty": float,
    "no_repeat_ngram_size": int,
    "frequency_penalty": float,
    "presence_penalty": float,
    "stop": str,
    "reasoning_effort": str,
}


class CannotSet(ValueError):
    """A field or a value that requests do not take, in the person's words."""


class Conversation:
    """Messages so far, and the fields that go with each request."""

    def __init__(self, system: str = "", fields: dict[str, object] | None = None) -> None:
        self.system = system
        self.fields = dict(fields or {})
        self.turns: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """All of it, the instructions first."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return head + self.turns

    def ask(self, question: str) -> None:
        self.turns.append({"role": "user", "content": question})

    def answer(self, text: str) -> None:
        """Take an answer, whole or stopped; without any text its question was not asked."""
        if text:
            self.turns.append({"role": "assistant", "content": text})
        else:
            self.turns.pop()

    def take_back(self) -> str:
        """Forget the last question and its answer; return the question, "" if there is none."""
        if not self.turns:
            return ""
        del self.turns[-1]
        return self.turns.pop()["content"]

    def set(self, name: str, text: str) -> None:
        """Set a field, or with an empty text leave it to the server. Raises CannotSet."""
        if name not in FIELDS:
            raise CannotSet(f"there is no field {name}{suggestion(name, FIELDS)}")
        if not text:
            self.fields.pop(name, None)
            return
        try:
            value = FIELDS[name](text)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(text)
            self.fields[name] = value
        except ValueError:
            kind = "a whole number" if FIELDS[name] is int else "a number"
            raise CannotSet(f"{name} is {kind}, not {text!r}") from None

    def save(self, path: Path) -> None:
        """Write it to a file: as JSON if it is called so, else as Markdown. Raises OSError."""
        if path.suffix == ".json":
            text = json.dumps({"messages": self.messages, **self.fields}, indent=2) + "\n"
        else:
            text = "\n".join(self._markdown())
        path.write_text(text, encoding="utf-8")

    def _markdown(self) -> Iterator[str]:
        for message in self.messages:
            yield f"## {message['role'].capitalize()}\n\n{message['content'].strip()}\n"
