"""Renders a chat template in a process of its own.

The template comes out of a model file: it may loop for ever, or build a string that fills memory,
inside one native call that no budget of ours would see. The sandbox keeps it from everything but
its arguments; the kernel keeps it from time (a CPU timer that kills) and memory (a limit). Knows
nothing of models or tokens. The greeting is a Template, a request a Rendering, its answer a
Rendered; an empty request asks for its Traits. Started by `gateway/sandbox/chat_template.py`.
"""

import json
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import jinja2
import msgspec
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.sandbox.chat_template import Rendered, Rendering, Template
from gateway.sandbox.helper_process import Unusable, cpu_limit, limit_memory, serve
from gateway.sandbox.template_traits import Message, probe

T = TypeVar("T")

# Jinja itself and a body of 10 MiB in the widest encoding fit a few times over.
MEMORY_LIMIT_BYTES = 512 * 2**20
# This is twice the default body limit; more cannot fit a context of a million tokens anyway.
MAX_OUTPUT_CHARS = 20 * 2**20
# Jinja's name, in tracebacks, for a template that came from a string.
_FILENAME = "<template>"


class GenerationBlock(Extension):
    """{% generation %} marks what a model wrote, for training; here it only encloses."""

    tags = {"generation"}  # noqa: RUF012, jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body alone."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateRefusal(jinja2.TemplateError):
    """What a template's author, or we, say to whoever sent the conversation."""


class ChatRenderer:
    """A compiled template, with what chat templates may call. Raises jinja2.TemplateError."""

    def __init__(self, template: Template) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlock]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._variables = template.variables
        self._template = environment.from_string(template.source)

    def render(self, variables: dict[str, Any], max_chars: int = MAX_OUTPUT_CHARS) -> str:
        """Return the text, unless it grows beyond max_chars."""
        pieces: list[str] = []
        num_chars = 0
        for piece in self._template.generate(**self._variables, **variables):
            num_chars += len(piece)
            if num_chars > max_chars:
                raise TemplateRefusal(f"its text is longer than {max_chars} characters")
            pieces.append(piece)
        return "".join(pieces)


def begin(greeting: bytes) -> Callable[[bytes], bytes]:
    """Compile the template; return what renders it. Raises Unusable."""
    limit_memory(MEMORY_LIMIT_BYTES)
    template = msgspec.msgpack.decode(greeting, type=Template)
    attempt = partial(_attempt, cpu_limit_s=template.cpu_limit_s)
    renderer = attempt(lambda: ChatRenderer(template))
    if isinstance(renderer, Rendered):
        raise Unusable(renderer.error)

    def render_probe(messages: Sequence[Message]) -> str | None:
        variables = {"messages": messages, "tools": None, "documents": None}
        text = attempt(lambda: renderer.render({**variables, "add_generation_prompt": True}))
        return text if isinstance(text, str) else None

    def answer(request: bytes) -> bytes:
        if not request:
            return msgspec.msgpack.encode(probe(render_probe))
        rendering = msgspec.json.decode(request, type=Rendering)
        text = attempt(partial(renderer.render, rendering.variables))
        return msgspec.msgpack.encode(text if isinstance(text, Rendered) else Rendered(text))

    return answer


def _attempt(work: Callable[[], T], cpu_limit_s: float) -> T | Rendered:
    """Return what `work` returns or, in one line, what it raised. It may not return at all."""
    try:
        with cpu_limit(cpu_limit_s):
            return work()
    except MemoryError:
        return Rendered(error="it needs too much memory")
    except RecursionError:
        return Rendered(error="it nests too deep")
    except jinja2.TemplateSyntaxError as error:
        return Rendered(error=f"line {error.lineno}: {_one_line(error)}")
    except TemplateRefusal as refusal:
        return Rendered(error=_one_line(refusal))
    except jinja2.exceptions.SecurityError as error:
        return Rendered(error=f"{_line(error)} does what the sandbox forbids")
    except Exception as error:
        # A template is a program: messages it was not written for fail in any way at all, and in
        # Python's words, which say nothing to who sent them.
        return Rendered(error=f"{_line(error)} fails over what they hold, or lack")


def _line(error: Exception) -> str:
    """Name the line of the template that an error came out of."""
    numbers = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == _FILENAME
    ]
    return f"its line {numbers[-1]}" if numbers else "it"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes what HTML would misread, which models were not trained on."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateRefusal(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


if __name__ == "__main__":
    serve("chat template", begin)
