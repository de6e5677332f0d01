"""The chat templates of one model: which of them is for which conversation.

Owns that choice, as transformers makes it, and a ChatTemplate for each. Knows no files and no
fields of a request. Built once by each worker.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.sandbox.chat_template import ChatTemplate
from gateway.text.chat_templates import DEFAULT, TOOL_USE

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


class UnknownTemplate(Exception):
    """There is no template of that name, or none by which to choose; the message is for people."""


class ChatTemplates:
    """Templates by name. default_options: variables of every rendering that sets no others."""

    def __init__(
        self,
        templates: Mapping[str, ChatTemplate],
        default_options: Mapping[str, Any] | None = None,
    ) -> None:
        """templates: at least one."""
        self.default_options = dict(default_options or {})
        self._templates = dict(templates)

    @classmethod
    def of(
        cls, tokenizer: "Tokenizer", sources: Mapping[str, str], default_options: Mapping[str, Any]
    ) -> "ChatTemplates | None":
        """Return those of a model's files; None for a model without any.

        A template has its own helper process, which starts with its first conversation.
        """
        templates = {name: ChatTemplate(tokenizer, source) for name, source in sources.items()}
        return cls(templates, default_options) if templates else None

    @property
    def supports_tools(self) -> bool:
        """Whether there is one for conversations with tools."""
        return any(template.supports_tools for template in self._templates.values())

    @property
    def knows_thoughts(self) -> bool:
        """Whether there is one that can ask for thoughts, or shows them."""
        return any(template.knows_thoughts for template in self._templates.values())

    def choose(self, name: str | None, *, has_tools: bool) -> ChatTemplate:
        """Return the template of a conversation.

        name: the one that was asked for. Without, `tool_use` is for conversations with tools if
        there is one, else `default`. Raises UnknownTemplate.
        """
        names = ", ".join(sorted(self._templates))
        if name is not None:
            if name in self._templates:
                return self._templates[name]
            raise UnknownTemplate(f"this model has no template of that name; it has: {names}")
        for wanted in (TOOL_USE, DEFAULT) if has_tools else (DEFAULT,):
            if wanted in self._templates:
                return self._templates[wanted]
        raise UnknownTemplate(f"none of this model's templates is the default; it has: {names}")

    def close(self) -> None:
        """End the helpers."""
        for template in self._templates.values():
            template.close()
