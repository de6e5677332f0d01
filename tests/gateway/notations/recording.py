"""What a recorded output is, and what all of them call and think."""

from dataclasses import dataclass
from typing import Any

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "deep": {"type": "object"},
        "metric": {"type": "boolean"},
        "n": {"type": "number"},
    },
}
TOOLS = {"get_weather": SCHEMA, "other_tool": SCHEMA}
WEATHER = (
    "get_weather",
    {
        "city": 'Zürich "ZH" </x>\n {a}',
        "days": [1, 2],
        "deep": {"a": "b", "c": [True]},
        "metric": True,
        "n": 2.5,
    },
)
OTHER = ("other_tool", {"city": "Bern", "days": []})
THOUGHT = "I think.\nYes"


@dataclass(frozen=True)
class Recorded:
    """An output and what is in it. calls, reasoning: names of the notations, "" for none."""

    name: str
    calls: str
    reasoning: str
    output: str
    told: str = ""
    thought: str = ""
    called: tuple[Any, ...] = (WEATHER, OTHER)
    is_thinking: bool = False
