"""POST /v1/chat/completions as types: what a request may say. Answers are in chat_answer.py.

What all requests for text share is in sampling.py, messages and tools are in messages.py.
check() finds what one field alone cannot say. Must not know templates, pools or HTTP.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from backend.wire.sampling import MaxTokens, NumLogprobs
from gateway.errors import invalid
from gateway.schema.hosted import check_hosted
from gateway.schema.messages import (
    AllowedToolsChoice,
    Documents,
    FunctionDefinition,
    Messages,
    NamedFunction,
    NamedToolChoice,
    Tool,
    ToolChoice,
    Tools,
    check_conversation,
)
from gateway.schema.sampling import check_beside
from gateway.schema.thinking import ChatReasoning, ReasoningEffort, ThinkingFields


class ChatRequest(ThinkingFields, frozen=True, kw_only=True):
    """Body of POST /v1/chat/completions.

    Fields from `metadata` on are accepted for clients' sake and change nothing.
    max_completion_tokens goes before max_tokens, its older name; without either the answer may
    fill the context. top_logprobs needs logprobs. parallel_tool_calls: false keeps the first call.
    functions and function_call: what came before tools and tool_choice; one call at most.
    add_generation_prompt: end with what begins an assistant's message; on by default.
    continue_final_message: go on with the last message instead of answering it.
    chat_template_kwargs: variables of the model's template, such as enable_thinking.
    chat_template: the name of one of the model's templates; by default tool_use where there are
    tools and the model has one, else default.
    reasoning_effort: a variable of the template; none and minimal turn thinking off, others on,
    unless another field says whether to think. reasoning: effort, switch and budget at once.
    """

    messages: Messages
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Meta(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    modalities: list[str] | None = None

    documents: Documents | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    chat_template: str | None = None
    reasoning_effort: ReasoningEffort | None = None
    reasoning: ChatReasoning | None = None

    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    verbosity: str | None = None
    moderation: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Fill what an object says of thoughts into the fields that say the same."""
        super().__post_init__()
        for name, value in self._reasoning.items():
            if getattr(self, name) is None:
                msgspec.structs.force_setattr(self, name, value)

    @property
    def max_output_tokens(self) -> int | None:
        """Output tokens per choice; None for as many as there is room for."""
        given = self.max_completion_tokens
        return self.max_tokens if given is None else given

    @property
    def prompt_field(self) -> str:
        """The field that the prompt comes from."""
        return "messages"

    @property
    def max_tokens_field(self) -> str:
        """The field that max_output_tokens comes from."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives beside each token, None for no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def usable_tools(self) -> Tools | None:
        """The tools that the model is told of: none if it must not call any."""
        return None if self.call_choice == "none" else self.offered_tools or None

    @property
    def is_call_required(self) -> bool:
        """Whether the answer must be a call."""
        choice = self.call_choice
        if isinstance(choice, AllowedToolsChoice):
            return choice.allowed_tools.mode == "required"
        return choice == "required" or isinstance(choice, NamedToolChoice)

    @property
    def is_legacy(self) -> bool:
        """Whether calls are asked for, and answered, in the form that came before tools."""
        return bool(self.functions) and self.function_call != "none"

    @property
    def offered_tools(self) -> Tools:
        """The tools, or the functions of the older form as tools."""
        if self.functions and self.is_legacy:
            return [Tool(function=function) for function in self.functions]
        return self.tools or []

    @property
    def call_choice(self) -> ToolChoice | None:
        """What tool_choice says, or the field that came before it."""
        if not self.is_legacy:
            return self.tool_choice
        chosen = self.function_call
        return NamedToolChoice(function=chosen) if isinstance(chosen, NamedFunction) else chosen

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for fields that contradict each other; see check_sampling()."""
        check_conversation(self)
        check_beside("top_logprobs", self.top_logprobs or None, "'logprobs': true", self.logprobs)
        check_beside("parallel_tool_calls", self.parallel_tool_calls, "'tools'", self.tools)
        if self.modalities is not None and self.modalities != ["text"]:
            message = "Invalid 'modalities': this model answers in text only."
            raise invalid(message, "modalities", "unsupported_parameter")
        check_hosted(self.moderation, self.prompt_cache_options)
        self.check_thinking()
        for name, value in self._reasoning.items():
            if getattr(self, name) != value:
                raise invalid(f"'reasoning' and '{name}' say different things.", name)
        self._check_functions()
        self._check_tools()
        self.check_sampling(self.max_output_tokens)

    @property
    def _reasoning(self) -> dict[str, Any]:
        """What `reasoning` says, by the names of fields."""
        if self.reasoning is None:
            return {}
        said = {
            "reasoning_effort": self.reasoning.effort,
            "enable_thinking": self.reasoning.enabled,
            "thinking_token_budget": self.reasoning.max_tokens,
        }
        return {name: value for name, value in said.items() if value is not None}

    def _check_functions(self) -> None:
        """Refuse functions beside tools, and a choice among none."""
        if self.is_legacy and self.tools:
            raise invalid("'functions' cannot be given together with 'tools'.", "functions")
        chosen = self.function_call
        if chosen is None or chosen == "none":
            return
        check_beside("function_call", chosen, "'functions'", self.functions)
        names = [function.name for function in self.functions or []]
        if isinstance(chosen, NamedFunction) and chosen.name not in names:
            message = f"Invalid 'function_call': no function is named '{chosen.name[:64]}'."
            raise invalid(message, "function_call")

    def _check_tools(self) -> None:
        names = [tool.function.name for tool in self.offered_tools]
        if len(names) != len(set(names)):
            field = "functions" if self.is_legacy else "tools"
            raise invalid(f"Invalid '{field}': two functions have the same name.", field)
        choice = self.tool_choice
        if choice is None or choice == "none":
            return
        check_beside("tool_choice", choice, "'tools'", names)
        chosen = [choice.function.name] if isinstance(choice, NamedToolChoice) else []
        if isinstance(choice, AllowedToolsChoice):
            chosen = choice.names
        for name in chosen:
            if name not in names:
                message = f"Invalid 'tool_choice': no tool is named '{name[:64]}'."
                raise invalid(message, "tool_choice")
