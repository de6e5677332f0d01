"""A chat template played by hand: no model, no process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.sandbox.chat_template import ChatTemplate, Conversation
from gateway.sandbox.chat_templates import ChatTemplates


@dataclass
class FakeTemplate:
    """Records conversations; renders contents one after the other."""

    name: str = ""
    supports_tools: bool = True
    knows_thoughts: bool = False
    failure: Exception | None = None
    seen: list[Conversation] = field(default_factory=list)

    async def encode(
        self,
        conversation: Conversation,
        *,
        add_special_tokens: bool = False,
        check: Callable[[str], None] = lambda text: None,
        salt: str | None = None,
    ) -> list[int]:
        self.seen.append(conversation)
        if self.failure is not None:
            raise self.failure
        text = "".join(m["content"] for m in conversation.messages)
        check(text)
        return list(text.encode())


def fake_templates(
    default_options: dict[str, Any] | None = None, **templates: FakeTemplate
) -> ChatTemplates:
    """Return a model's templates by name."""
    return ChatTemplates(cast("dict[str, ChatTemplate]", templates), default_options)


def switched(mode: str, **others: Any) -> dict[str, Any]:
    """Return the variables by which templates know whether to think, and others."""
    is_on = mode != "disabled"
    return {"enable_thinking": is_on, "thinking": is_on, "thinking_mode": mode, **others}
