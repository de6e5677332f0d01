"""What an answer must match: OpenAI's response_format and vLLM's structured_outputs.

Shapes and sizes only; gateway/requests/grammars.py says what they mean. Used by every request that
generates text.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_CHOICES = 1000
MAX_REGEX_LENGTH = 4096
MAX_GRAMMAR_LENGTH = 64 * 1024

AnswerChoices = Annotated[list[str], Meta(min_length=1, max_length=MAX_CHOICES)]
Regex = Annotated[str, Meta(min_length=1, max_length=MAX_REGEX_LENGTH)]
GrammarText = Annotated[str, Meta(min_length=1, max_length=MAX_GRAMMAR_LENGTH)]


class JsonSchemaFormat(msgspec.Struct, frozen=True, kw_only=True):
    """schema: a JSON schema; without one any object will do. strict: follow it to the letter."""

    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """json_schema belongs to the type of that name."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of json, regex, choice, grammar and json_object.

    json: a JSON schema, as an object or spelled in a string. any_whitespace: JSON may have line
    breaks and indents; without it, it is one line. It may stand alone, for response_format.
    """

    json: dict[str, Any] | str | None = None
    regex: Regex | None = None
    choice: AnswerChoices | None = None
    grammar: GrammarText | None = None
    json_object: bool | None = None
    any_whitespace: bool | None = None
