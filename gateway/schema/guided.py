"""vLLM's older names for structured output, which clients still send.

Each is the field of structured_outputs that its name ends in. Used by every request that generates
text.
"""

from typing import Any

import msgspec

from gateway.errors import invalid
from gateway.schema.structured import AnswerChoices, GrammarText, Regex, StructuredOutputs


class GuidedFields(msgspec.Struct, frozen=True, kw_only=True):
    """guided_json, guided_regex, guided_choice, guided_grammar: older names of what
    structured_outputs holds.
    """

    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: Regex | None = None
    guided_choice: AnswerChoices | None = None
    guided_grammar: GrammarText | None = None

    def __post_init__(self) -> None:
        """Fill structured_outputs from the older names."""
        guided = self._guided
        if guided and self.structured_outputs is None:
            meant = StructuredOutputs(**guided)
            msgspec.structs.force_setattr(self, "structured_outputs", meant)

    def check_guided(self) -> None:
        """Raise ApiError where the names contradict each other."""
        guided = self._guided
        names = [f"guided_{name}" for name in guided]
        if len(names) > 1:
            message = f"'{names[0]}' and '{names[1]}' may not both restrict the answer."
            raise invalid(message, names[1])
        if guided and self.structured_outputs != StructuredOutputs(**guided):
            message = f"'{names[0]}' is an older name of a part of 'structured_outputs': give one."
            raise invalid(message, names[0])

    @property
    def _guided(self) -> dict[str, Any]:
        """What the older names say, by the newer."""
        given = {
            "json": self.guided_json,
            "regex": self.guided_regex,
            "choice": self.guided_choice,
            "grammar": self.guided_grammar,
        }
        return {name: value for name, value in given.items() if value is not None}
