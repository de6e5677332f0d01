"""Writes the choices of a chat: whole ones, and what pieces of a stream have in common with them.

Both are made of the same text, calls and log-probabilities. Called by chat.py and chat_stream.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from backend.wire.messages import FinishReason
from gateway.answer_events import (
    AnswerEvent,
    ArgumentsDelta,
    CallBegin,
    ReasoningDelta,
    TextDelta,
)
from gateway.answers.choice import Choice, Token
from gateway.answers.logprobs import prompt_logprobs
from gateway.answers.whole_answer import Call, WholeChoice
from gateway.dialects.chat_logprobs import ContentTokens, chat_logprobs
from gateway.schema.chat import ChatRequest
from gateway.schema.chat_answer import (
    AnswerMessage,
    ChatChoice,
    ChatLogprobs,
    Delta,
    FunctionCallDelta,
    ToolCallDelta,
)
from gateway.schema.completions import PromptLogprob
from gateway.schema.messages import FunctionCall, NamedToolChoice, ToolCall

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


class ChoiceWriter:
    """Writes what whole choices and pieces of them have in common."""

    def __init__(self, request: ChatRequest, tokenizer: "Tokenizer") -> None:
        self.shows_usage = request.include_usage
        self.shows_usage_always = request.has_continuous_usage
        self.shows_ids = bool(request.return_token_ids)
        self.shows_logprobs = request.num_logprobs is not None
        self._request = request
        self._tokenizer = tokenizer

    def choice(self, whole: WholeChoice) -> ChatChoice:
        """Return one answer."""
        calls = [_call(call) for call in whole.calls]
        content = None if calls and not whole.text else whole.text
        tokens = whole.own_tokens
        return ChatChoice(
            index=whole.choice.index,
            message=self._message(content, calls, whole.reasoning),
            logprobs=self.logprobs(ContentTokens().take(whole.events, tokens)),
            finish_reason=self.finish_reason(whole.choice, is_call=whole.ends_in_call) or "",
            stop_reason=whole.choice.stop_reason,
            token_ids=self.token_ids(tokens),
        )

    def _message(self, content: str | None, calls: list[ToolCall], reasoning: str) -> AnswerMessage:
        thought = reasoning or UNSET
        is_legacy = self._request.is_legacy and bool(calls)
        return AnswerMessage(
            content=content,
            reasoning_content=thought,
            reasoning=thought,
            tool_calls=UNSET if is_legacy else calls or UNSET,
            function_call=calls[0].function if is_legacy else UNSET,
        )

    def delta(self, piece: AnswerEvent) -> Delta | None:
        """Return what an event adds to the message; None if it adds nothing."""
        match piece:
            case TextDelta(text):
                return Delta(content=text)
            case ReasoningDelta(text):
                return Delta(reasoning_content=text, reasoning=text)
            case CallBegin(index, id, name):
                return self.call_delta(index, FunctionCallDelta("", name), id)
            case ArgumentsDelta(index, text):
                return self.call_delta(index, FunctionCallDelta(text))
            case _:
                return None

    def call_delta(self, index: int, function: FunctionCallDelta, id: str = "") -> Delta:
        """Return a piece of a call. id: with the first."""
        if self._request.is_legacy:
            return Delta(function_call=function)
        if not id:
            return Delta(tool_calls=[ToolCallDelta(index=index, function=function)])
        call = ToolCallDelta(index=index, id=id, type="function", function=function)
        return Delta(tool_calls=[call])

    def finish_reason(self, choice: Choice, *, is_call: bool) -> str | None:
        """Return why a choice ended: an answer that the model chose to be a call says so."""
        if choice.finish_reason is None:
            return None
        is_named = isinstance(self._request.call_choice, NamedToolChoice)
        if is_call and not is_named and choice.finish_reason is FinishReason.STOP:
            return "function_call" if self._request.is_legacy else "tool_calls"
        return choice.finish_reason.value

    def logprobs(self, tokens: Sequence[Token]) -> ChatLogprobs | None:
        """Return the log-probabilities of some tokens, if they are wanted."""
        wanted = self._request.num_logprobs
        return None if wanted is None else chat_logprobs(tokens, wanted, self._tokenizer)

    def prompt_logprobs(
        self, tokens: Sequence[Token]
    ) -> list[dict[int, PromptLogprob] | None] | UnsetType:
        """Return those of the prompt, if they are wanted."""
        wanted = self._request.prompt_logprobs
        if wanted is None:
            return UNSET
        of_prompt = [token for token in tokens if token.is_prompt]
        return prompt_logprobs(of_prompt, wanted, self._tokenizer)

    def token_ids(self, tokens: Sequence[Token]) -> list[int] | UnsetType:
        """Return the ids of an answer's tokens, if they are wanted."""
        return [token.token_id for token in tokens] if self.shows_ids else UNSET

    def prompt_ids(self, choice: Choice) -> list[int] | UnsetType:
        """Return the ids of the prompt, if they are wanted."""
        return choice.prompt.token_ids if self.shows_ids else UNSET


def _call(call: Call) -> ToolCall:
    return ToolCall(id=call.id, function=FunctionCall(call.name, call.arguments))
