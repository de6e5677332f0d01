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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.sandbox.helper import Helper, HelperBusy, HelperDied, HelperRefused, HelperSilent

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

# The longest conversation a body can hold (10 MiB) renders in 0.1 s with the templates in use.
CPU_LIMIT_S = 2.0
# The clock ends a helper that is starved or stopped; CPU_LIMIT_S is what a template gets.
RENDER_TIMEOUT_S = 10.0
# So much of a message tells whether a rendering shows it at all.
PROBE_CHARS = 200

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
        self.knows_developer = "developer" in source
        self.knows_thoughts = _THOUGHTS.search(source) is not None
        self._tokenizer = tokenizer
        template = Template(source, _special_tokens(tokenizer), cpu_limit_s)
        self._helper = Helper(
            "gateway.sandbox.template_process", lambda: msgspec.msgpack.encode(template)
        )
        self._end_tag = f"end-{secrets.token_hex(16)} "
        self._defect = ""  # why no conversation can be rendered
        self._takes_parts = False  # contents as lists of parts, and nothing else

    async def encode(
        self,
        conversation: Conversation,
        *,
        add_special_tokens: bool = False,
        check: Callable[[str], None] = lambda text: None,
    ) -> list[int]:
        """Return the token ids of a conversation.

        add_special_tokens: put around it what the model wants around a prompt; templates
        mostly do that themselves. check: called with the text, may raise.
        Raises TemplateFailure, TemplateBusy, and TokenizerError for text that is not Unicode.
        """
        text = await self._rendered(conversation)
        check(text)
        # The helper's thread must not do this: 10 MiB take 0.1 s to render, but 6 s to tokenise.
        return await asyncio.to_thread(
            self._tokenizer.encode, text, add_special_tokens=add_special_tokens
        )

    def close(self) -> None:
        """End the helper."""
        self._helper.close()

    async def _rendered(self, conversation: Conversation) -> str:
        """Return the text, names of special tokens in it escaped."""
        rendered = await self._ask(conversation, has_parts=self._takes_parts)
        if not self._takes_parts and self._lacks_question(rendered, conversation):
            # Templates of models for images and text may walk through parts alone: of a string they
            # show nothing, or fail.
            in_parts = await self._ask(conversation, has_parts=True)
            if not self._lacks_question(in_parts, conversation):
                self._takes_parts, rendered = True, in_parts
        if rendered.error:
            raise TemplateFailure(rendered.error)
        if conversation.continues_final_message:
            return self._without_end(rendered.text)
        return rendered.text

    def _lacks_question(self, rendered: Rendered, conversation: Conversation) -> bool:
        """Whether a rendering failed, or does not show what the user said last."""
        contents = [m["content"] for m in conversation.messages if m["role"] == "user"]
        start = (contents[-1] if contents else "").strip()[:PROBE_CHARS]
        return bool(rendered.error) or self._tokenizer.escape(start) not in rendered.text

    async def _ask(self, conversation: Conversation, *, has_parts: bool) -> Rendered:
        """Return what the helper makes of a conversation.

        has_parts: contents are lists of one text part instead of strings.
        """
        if self._defect:
            raise TemplateFailure(self._defect)
        try:
            answer = await self._helper.ask(
                lambda: self._request(conversation, has_parts=has_parts), RENDER_TIMEOUT_S
            )
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
        return msgspec.msgpack.decode(answer, type=Rendered)

    def _request(self, conversation: Conversation, *, has_parts: bool) -> bytes:
        """Return what the helper is asked. In the helper's thread: it may be 10 MiB."""
        conversation = self._escaped(conversation)
        messages = conversation.messages
        if conversation.continues_final_message:
            *earlier, final = messages
            tagged = {**final, "content": f"{final.get('content') or ''}{self._end_tag}"}
            messages = [*earlier, tagged]
        if has_parts:
            messages = [
                {**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages
            ]
        variables = {
            **conversation.options,
            "messages": messages,
            "tools": conversation.tools,
            "documents": conversation.documents,
            "add_generation_prompt": conversation.add_generation_prompt,
        }
        try:
            return msgspec.msgpack.encode(Rendering(variables))
        except UnicodeEncodeError:
            raise TemplateFailure("a text in them is not valid Unicode") from None

    def _without_end(self, text: str) -> str:
        """Return a text up to where its last message ends, without what the template adds."""
        before, tag, after = text.rpartition(self._end_tag.rstrip())
        if not tag:
            raise TemplateFailure("it leaves the last message out, which can not be continued")
        # A template that trims contents has trimmed the tag, and would trim this one's end.
        return before if after.startswith(" ") else before.rstrip()

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
    ids = {"bos_token": tokenizer.bos_token_id, "eos_token": tokenizer.eos_token_id}
    return {
        name: tokenizer.decode([token_id], skip_special_tokens=False)
        for name, token_id in ids.items()
        if token_id is not None
    }
