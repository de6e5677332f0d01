"""Turns a conversation into token ids, in the form the model was trained on.

A helper process (template_process.py) runs the model's template. Owns what that is shown, and the
words for its failures. Knows no HTTP and no fields of a request. One ChatTemplate per worker, used
by the endpoints that take messages.
"""

import asyncio
import logging
import re
import secrets
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.sandbox.helper import Helper, HelperBusy, HelperDied, HelperRefused, HelperSilent
from gateway.sandbox.template_traits import Message, Traits, in_parts, with_text_arguments

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

# The longest conversation a body can hold (10 MiB) renders in 0.1 s with the templates in use.
CPU_LIMIT_S = 2.0
# The clock ends a helper that is starved or stopped; CPU_LIMIT_S is what a template gets.
RENDER_TIMEOUT_S = 10.0

TEMPLATE_PROCESS = "gateway.sandbox.template_process"
LOSES_USERS = "it shows nothing of what a user says, in whichever form it is given that"

_THOUGHTS = re.compile(r"<think>|\b(enable_thinking|reasoning_content|reasoning_effort|thinking)\b")
_TOOLS = re.compile(r"\btools\b")


class Template(msgspec.Struct, frozen=True, array_like=True):
    """The source, and the variables that every rendering sees (bos_token and the like).

    cpu_limit_s: of processor time, for compiling it and for each rendering.
    """

    source: str
    variables: dict[str, str]
    cpu_limit_s: float = CPU_LIMIT_S


class Rendering(msgspec.Struct, frozen=True, array_like=True):
    """The variables of one rendering, `messages` among them."""

    variables: dict[str, Any]


class Rendered(msgspec.Struct, frozen=True, array_like=True):
    """The text, or why there is none."""

    text: str = ""
    error: str = ""


class TemplateFailure(ValueError):
    """The template cannot render these messages, or any. The message is for the caller."""


class TemplateBusy(Exception):
    """Too many conversations wait to be rendered."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template is given.

    messages, tools, documents: as OpenAI has them, contents as strings. Any text in them may
    spell special tokens; it stays text. options: other variables, JSON; text in them stays text.
    continues_final_message: the text ends inside the last message instead of after it.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    documents: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True
    continues_final_message: bool = False
    options: dict[str, Any] = field(default_factory=dict)


class ChatTemplate:
    """A model's chat template and its tokenizer, together."""

    def __init__(
        self, tokenizer: "Tokenizer", source: str, cpu_limit_s: float = CPU_LIMIT_S
    ) -> None:
        """cpu_limit_s: of processor time, for one rendering."""
        self.supports_tools = _TOOLS.search(source) is not None
        self.knows_thoughts = _THOUGHTS.search(source) is not None
        self._tokenizer = tokenizer
        template = Template(source, _special_tokens(tokenizer), cpu_limit_s)
        self._helper = Helper(TEMPLATE_PROCESS, lambda: msgspec.msgpack.encode(template))
        self._end_tag = f"end-{secrets.token_hex(16)} "
        self._defect = ""  # why no conversation can be rendered
        self._traits: Traits | None = None  # known from the first conversation on

    async def encode(
        self,
        conversation: Conversation,
        *,
        add_special_tokens: bool = False,
        check: Callable[[str], None] = lambda text: None,
        salt: str | None = None,
    ) -> list[int]:
        """Return the token ids of a conversation.

        add_special_tokens: put around it what the model wants around a prompt; templates
        mostly do that themselves. check: called with the text, may raise. salt: conversations
        under equal ones share what was tokenised before; None to remember nothing of it.
        Raises TemplateFailure, TemplateBusy, and TokenizerError for text that is not Unicode.
        """
        text = await self._rendered(conversation)
        check(text)
        # The helper's thread must not do this: 10 MiB take 0.1 s to render, but 6 s to tokenise.
        return await asyncio.to_thread(
            self._tokenizer.encode, text, add_special_tokens=add_special_tokens, salt=salt
        )

    def close(self) -> None:
        """End the helper."""
        self._helper.close()

    async def _rendered(self, conversation: Conversation) -> str:
        """Return the text, names of special tokens in it escaped."""
        if self._traits is None:
            self._traits = msgspec.msgpack.decode(await self._ask(lambda: b""), type=Traits)
        traits = self._traits
        if traits.loses_users:
            raise TemplateFailure(LOSES_USERS)
        rendered = await self._render(conversation, traits)
        if rendered.error and (tools := _completed(conversation.tools)) != conversation.tools:
            # Many templates look into what a tool may leave out.
            complete = await self._render(replace(conversation, tools=tools), traits)
            rendered = rendered if complete.error else complete
        if rendered.error:
            raise TemplateFailure(rendered.error)
        if conversation.continues_final_message:
            content = conversation.messages[-1].get("content") or ""
            return self._without_end(rendered.text, is_blank=not content.strip())
        return rendered.text

    async def _render(self, conversation: Conversation, traits: Traits) -> Rendered:
        answer = await self._ask(lambda: self._request(conversation, traits))
        return msgspec.msgpack.decode(answer, type=Rendered)

    async def _ask(self, request: Callable[[], bytes]) -> bytes:
        """Return what the helper makes of a request, which is made in its thread."""
        if self._defect:
            raise TemplateFailure(self._defect)
        try:
            return await self._helper.ask(request, RENDER_TIMEOUT_S)
        except HelperBusy:
            raise TemplateBusy from None
        except HelperRefused as refusal:
            self._defect = str(refusal)
            logger.error("the model's chat template cannot be used: %s", refusal)
            raise TemplateFailure(self._defect) from None
        except HelperSilent:
            raise TemplateFailure(f"it took longer than {RENDER_TIMEOUT_S:g} s") from None
        except HelperDied as death:
            is_slow = death.signal == signal.SIGPROF
            reason = "it took too much processor time" if is_slow else str(death)
            raise TemplateFailure(reason) from None

    def _request(self, conversation: Conversation, traits: Traits) -> bytes:
        """Return what the helper is asked. In the helper's thread: it may be 10 MiB."""
        conversation = self._escaped(conversation)
        messages = conversation.messages
        if conversation.continues_final_message:
            *earlier, final = messages
            tagged = {**final, "content": f"{final.get('content') or ''}{self._end_tag}"}
            messages = [*earlier, tagged]
        messages = [_as_read(message, traits) for message in messages]
        variables = {
            **conversation.options,
            "messages": messages,
            "tools": conversation.tools,
            "documents": conversation.documents,
            "add_generation_prompt": conversation.add_generation_prompt,
        }
        try:
            # JSON: whole numbers in it may be of any size, as in a tool's schema.
            return msgspec.json.encode(Rendering(variables))
        except UnicodeEncodeError:
            raise TemplateFailure("a text in them is not valid Unicode") from None

    def _without_end(self, text: str, *, is_blank: bool) -> str:
        """Return a text up to where its last message ends, without what the template adds.

        is_blank: of that message itself there is white space at most.
        """
        before, tag, after = text.rpartition(self._end_tag.rstrip())
        if not tag:
            raise TemplateFailure("it leaves the last message out, which can not be continued")
        # A template that trims contents has trimmed the tag, and would trim this one's end. White
        # space before a blank one is the template's own.
        return before if is_blank or after.startswith(" ") else before.rstrip()

    def _escaped(self, conversation: Conversation) -> Conversation:
        escape = self._tokenizer.escape
        return Conversation(
            _escaped(conversation.messages, escape),
            _escaped(conversation.tools, escape),
            _escaped(conversation.documents, escape),
            conversation.add_generation_prompt,
            conversation.continues_final_message,
            _escaped(conversation.options, escape),
        )


def _as_read(message: Message, traits: Traits) -> Message:
    """Return a message under a role, and in the form, that the template reads."""
    if message["role"] == "developer" and not traits.knows_developer:
        message = {**message, "role": "system"}  # what that role was called before
    role = "system" if message["role"] == "developer" else message["role"]
    if traits.reads_text_arguments:
        message = with_text_arguments(message)
    return in_parts(message) if role in traits.part_roles else message


def _completed(tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Return tools with what the API lets one leave out: a description, and parameters."""
    if tools is None:
        return None
    completed = []
    for tool in tools:
        function = {"description": "", **tool["function"]}
        parameters = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
        completed.append({**tool, "function": {**function, "parameters": parameters}})
    return completed


def _escaped(value: Any, escape: Callable[[str], str]) -> Any:
    """Return JSON with every string in it escaped."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return [_escaped(item, escape) for item in value]
    if isinstance(value, dict):
        return {escape(key): _escaped(item, escape) for key, item in value.items()}
    return value


def _special_tokens(tokenizer: "Tokenizer") -> dict[str, str]:
    """Return the variables by which templates name the tokens around a text."""
    ids = {**tokenizer.other_ids, "bos_token": tokenizer.bos_token_id}
    ids["eos_token"] = tokenizer.eos_token_id
    return {
        name: tokenizer.decode([token_id], skip_special_tokens=False)
        for name, token_id in ids.items()
        if token_id is not None
    }
