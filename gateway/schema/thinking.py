"""Whether a model thinks before it answers, and for how long: the words that clients have for it.

`thinking` of Anthropic, DeepSeek, GLM and Kimi, `enable_thinking` and `thinking_budget` of Qwen,
`thinking_token_budget` of vLLM. Used by the requests of chats, Responses and Messages.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from backend.wire.sampling import MaxTokens
from gateway.errors import invalid
from gateway.schema.sampling import SamplingFields

ReasoningEffort = Annotated[str, Meta(max_length=64)]
# adaptive: the model decides whether to think.
ThinkingMode = Literal["enabled", "disabled", "adaptive"]


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to think first.

    budget_tokens: so many tokens of thought at most. display: `omitted` shows none of it, any
    other word all of it; of Messages.
    """

    type: Literal["enabled", "disabled", "adaptive", "auto", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=1)] | None = None
    display: Annotated[str, Meta(max_length=64)] | None = None

    @property
    def mode(self) -> ThinkingMode:
        """The same in three words."""
        return self.type if self.type in ("enabled", "disabled") else "adaptive"


class ChatReasoning(msgspec.Struct, frozen=True, kw_only=True):
    """OpenRouter's and Ollama's words for it. exclude: accepted; thoughts are a part of their own.

    max_tokens: so many tokens of thought at most.
    """

    effort: ReasoningEffort | None = None
    enabled: bool | None = None
    max_tokens: MaxTokens | None = None
    exclude: bool | None = None


class ThinkingFields(SamplingFields, frozen=True, kw_only=True):
    """What a chat is asked for in the words of a completion, and whether to think.

    thinking, enable_thinking: whether to think, where the template has a switch.

    thinking_token_budget, thinking_budget: tokens that a thought may have; it is ended then.
    """

    thinking: Thinking | bool | None = None
    enable_thinking: bool | None = None
    thinking_budget: MaxTokens | None = None
    thinking_token_budget: MaxTokens | None = None

    @property
    def thinking_mode(self) -> ThinkingMode | None:
        """Whether to think; None where the template decides."""
        if isinstance(self.thinking, Thinking):
            return self.thinking.mode
        given = self.enable_thinking if self.thinking is None else self.thinking
        return None if given is None else "enabled" if given else "disabled"

    @property
    def max_thought_tokens(self) -> int | None:
        """Tokens that a thought may have at most; None for no limit of its own."""
        return next(iter(self._budgets.values()), None)

    def check_thinking(self) -> None:
        """Raise ApiError where the words contradict each other."""
        is_on = self.thinking_mode != "disabled"
        if self.enable_thinking is not None and self.enable_thinking != is_on:
            message = "'enable_thinking' and 'thinking' say the opposite of each other."
            raise invalid(message, "enable_thinking")
        budgets = self._budgets
        if len(set(budgets.values())) > 1:
            first, other = list(budgets)[:2]
            message = f"'{first}' and '{other}' limit thoughts to different numbers of tokens."
            raise invalid(message, other)

    @property
    def _budgets(self) -> dict[str, int]:
        """The limits that are given, by their names."""
        budget = self.thinking.budget_tokens if isinstance(self.thinking, Thinking) else None
        given = {
            "thinking_token_budget": self.thinking_token_budget,
            "thinking_budget": self.thinking_budget,
            "thinking.budget_tokens": budget,
        }
        return {name: value for name, value in given.items() if value is not None}
