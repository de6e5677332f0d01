"""What the mock engine of `unisono bench gateway` writes, and what a notation makes of it.

Text that nothing looks into, or text, a thought or the arguments of a call that a parser follows:
each in tokens of plain words, so that every one makes an event. Called by gateway/bench/gateway.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.settings import ServerSettings

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

# It shows all that is asked for, so that no tool and no thought is missing in it.
TEMPLATE = """\
{% for tool in tools or [] %}{{ tool | tojson }}
{% endfor %}{% for message in messages %}{{ message.role }}: {{ message.content }}
{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>
{% endfor %}{% endfor %}assistant: """
_NAME = "write"
_PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}}
_FUNCTION = {"name": _NAME, "parameters": _PARAMETERS}
# The same tool in the words of each dialect.
TOOLS: dict[str, list[dict[str, Any]]] = {
    "chat": [{"type": "function", "function": _FUNCTION}],
    "ollama": [{"type": "function", "function": _FUNCTION}],
    "messages": [{"name": _NAME, "input_schema": _PARAMETERS}],
    "responses": [{"type": "function", **_FUNCTION}],
}


@dataclass(frozen=True, slots=True)
class Written:
    """begins: what comes before the words. is_parsed: a notation is followed."""

    begins: str = ""
    is_parsed: bool = True

    def fields(self, dialect: str) -> dict[str, Any]:
        """Return what a request says more."""
        return {"tools": TOOLS[dialect]} if self.is_parsed else {}

    def first_ids(self, tokenizer: "Tokenizer") -> tuple[int, ...]:
        """Return the tokens before the words."""
        return tuple(tokenizer.encode(self.begins, add_special_tokens=False)) if self.begins else ()

    def settings(self, template: str) -> ServerSettings:
        """Return those of a worker that reads it so. template: file of the chat template."""
        if not self.is_parsed:
            return ServerSettings()
        return ServerSettings(
            chat_template=template, tool_notation="hermes", reasoning_notation="think"
        )


PLAIN = Written(is_parsed=False)
WRITTEN = {
    "plain": PLAIN,
    "text": Written(),
    "thought": Written("<think>\nIf"),
    "arguments": Written(f'<tool_call>\n{{"name": "{_NAME}", "arguments": {{"text": "If'),
}
