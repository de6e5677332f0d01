"""Turns a conversation into token ids, in the form the model was trained on.

Owns the one helper process that runs the model's template (template_helper.py), its life and its
limits, and what a template is shown. Knows no HTTP and no fields of a request. One ChatTemplate per
worker, used by the endpoints that take messages.

    chat_template -> helper   Template, once; then Rendering, one at a time
    helper -> chat_template   one Rendered for each of them; all are msgpack
"""

import asyncio
import logging
import multiprocessing
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from gateway.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

# The longest conversation a body can hold (10 MiB) renders in 0.1 s with the templates in use.
CPU_LIMIT_S = 2.0
# Starting Python and importing Jinja took 0.2 s; a busy machine may take much longer.
START_TIMEOUT_S = 30.0
# Of the clock, for a helper that is starved or stopped; CPU_LIMIT_S is what a template gets.
RENDER_TIMEOUT_S = 10.0
# Renderings take their turns; behind a slow one, more than these are turned away.
MAX_WAITING = 128

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
    """The text, or why there is none. For a Template that could be compiled: neither."""

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
    spell special tokens; it stays text. options: other variables, chosen by the server's rules.
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
        self._tokenizer = tokenizer
        self._template = Template(source, _special_tokens(tokenizer), cpu_limit_s)
        self._end_tag = f"end-{secrets.token_hex(16)} "
        self._helper: _Helper | None = None
        self._defect = ""  # why no conversation can be rendered
        self._num_waiting = 0
        # One thread: renderings take turns, and those stuck never occupy the default executor.
        self._executor = ThreadPoolExecutor(1, "chat-template")

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
        if self._num_waiting >= MAX_WAITING:
            raise TemplateBusy
        self._num_waiting += 1
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._executor, self._render, conversation)
        job.add_done_callback(self._forget)  # the job outlives a request that is cancelled
        text = await asyncio.shield(job)
        check(text)
        # Not in that thread: 10 MiB take 0.1 s to render, but 6 s to tokenise.
        return await asyncio.to_thread(
            self._tokenizer.encode, text, add_special_tokens=add_special_tokens
        )

    def close(self) -> None:
        """End the helper. Only when no conversation is being encoded."""
        self._executor.shutdown()
        if self._helper is not None:
            self._helper.close()
            self._helper = None

    def _forget(self, job: "asyncio.Future[str]") -> None:
        self._num_waiting -= 1
        if not job.cancelled():
            job.exception()  # taken note of, though its request may be gone

    def _render(self, conversation: Conversation) -> str:
        """Return the text, names of special tokens in it protected. Runs in the thread, as does
        all that follows."""
        conversation = self._protected(conversation)
        variables = {
            **conversation.options,
            "messages": conversation.messages,
            "tools": conversation.tools,
            "documents": conversation.documents,
            "add_generation_prompt": conversation.add_generation_prompt,
        }
        if not conversation.continues_final_message:
            return self._text(variables)
        *earlier, final = conversation.messages
        tagged = {**final, "content": f"{final.get('content') or ''}{self._end_tag}"}
        text = self._text({**variables, "messages": [*earlier, tagged]})
        before, tag, after = text.rpartition(self._end_tag.rstrip())
        if not tag:
            raise TemplateFailure("it leaves the last message out, which can not be continued")
        # A template that trims contents has trimmed the tag, and would trim this one's end.
        return before if after.startswith(" ") else before.rstrip()

    def _protected(self, conversation: Conversation) -> Conversation:
        protect = self._tokenizer.protect
        return Conversation(
            _protected(conversation.messages, protect),
            _protected(conversation.tools, protect),
            _protected(conversation.documents, protect),
            conversation.add_generation_prompt,
            conversation.continues_final_message,
            conversation.options,
        )

    def _text(self, variables: dict[str, Any]) -> str:
        if self._defect:
            raise TemplateFailure(self._defect)
        try:
            payload = msgspec.msgpack.encode(Rendering(variables))
        except UnicodeEncodeError:
            raise TemplateFailure("a text in them is not valid Unicode") from None
        rendered = self._ready_helper().exchange(payload, RENDER_TIMEOUT_S)
        if rendered.error:
            raise TemplateFailure(rendered.error)
        return rendered.text

    def _ready_helper(self) -> "_Helper":
        if self._helper is None or not self._helper.is_alive:
            self._helper = _Helper()
            template = msgspec.msgpack.encode(self._template)
            error = self._helper.exchange(template, START_TIMEOUT_S).error
            if error:
                logger.error("the model's chat template cannot be used: %s", error)
                # What the helper lived to say will be said again; its death may be bad luck.
                self._defect = error if self._helper.is_alive else ""
                self._helper.close()
                raise TemplateFailure(error)
        return self._helper


class _Helper:
    """A process of template_helper.py, from its start to its end, whoever brings that about."""

    def __init__(self) -> None:
        self.is_alive = True
        self._connection, theirs = multiprocessing.Pipe()
        death_read_fd, self._death_fd = os.pipe()
        fds = (theirs.fileno(), death_read_fd)
        command = [sys.executable, "-m", "gateway.template_helper"]
        command += [*map(str, fds), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=fds
            )
        finally:
            theirs.close()
            os.close(death_read_fd)

    def exchange(self, payload: bytes, timeout_s: float) -> Rendered:
        """Send one frame and wait for its answer. A helper that gives none is ended."""
        try:
            self._connection.send_bytes(payload)
            if self._connection.poll(timeout_s):
                return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Rendered)
            error = f"it took longer than {timeout_s:g} s"
        except (EOFError, OSError):
            error = self._cause_of_death()
        self.close()
        return Rendered(error=error)

    def close(self) -> None:
        """Kill the process and collect it. Idempotent."""
        if self.is_alive:
            self.is_alive = False
            self._connection.close()
            self._process.kill()
            self._process.wait()
            os.close(self._death_fd)

    def _cause_of_death(self) -> str:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "its process does not answer"
        if code == -signal.SIGPROF:
            return "it took too much processor time"
        return f"its process ended with code {code}"


def _protected(value: Any, protect: Callable[[str], str]) -> Any:
    """Return JSON with every string in it protected."""
    if isinstance(value, str):
        return protect(value)
    if isinstance(value, list):
        return [_protected(item, protect) for item in value]
    if isinstance(value, dict):
        return {protect(key): _protected(item, protect) for key, item in value.items()}
    return value


def _special_tokens(tokenizer: "Tokenizer") -> dict[str, str]:
    """Return the variables by which templates name the tokens around a text."""
    ids = {"bos_token": tokenizer.bos_token_id, "eos_token": tokenizer.eos_token_id}
    return {
        name: tokenizer.decode([token_id], skip_special_tokens=False)
        for name, token_id in ids.items()
        if token_id is not None
    }
