"""The loads of the comparison. Each server is asked in its own words for what it has."""

from dataclasses import dataclass, field
from typing import Any

from gateway.bench.presets import TAKEOFF_SAMPLING
from gateway.bench.workload import Workload


@dataclass(frozen=True, slots=True)
class Load:
    """prompt_tokens in, max_tokens out, whatever the text. extra: fields of every request."""

    title: str
    prompt_tokens: int
    max_tokens: int
    temperature: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    def workload(self, dialect: dict[str, Any]) -> Workload:
        """Return what the client sends, but for the model's name.

        dialect: a server's names of fields; None for what it lacks.
        """
        extra = {
            dialect.get(name, name): value
            for name, value in self.extra.items()
            if dialect.get(name, name) is not None
        }
        return Workload(
            model="",
            prompt_tokens=self.prompt_tokens,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            extra=extra,
        )


LOADS = {
    "a": Load("prompt 128, output 128, greedy", 128, 128),
    "b": Load(
        "prompt 3, output 256, sampled with filters and penalties (the article's)",
        3,
        256,
        temperature=1.0,
        extra=dict(TAKEOFF_SAMPLING),
    ),
    "c": Load("prompt 3, output 256, greedy", 3, 256),
}
