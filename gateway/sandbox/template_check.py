"""Looks at chat templates and their variables before anything is served.

Owns the words for what an operator got wrong, and for a template that would answer questions nobody
asked. What else is wrong with a model's own template is told to who sends it a conversation: its
completions can be served.
"""

from pathlib import Path

import msgspec

from backend.config.errors import ModelError
from gateway.sandbox.chat_template import LOSES_USERS, RENDER_TIMEOUT_S, TEMPLATE_PROCESS, Template
from gateway.sandbox.helper import START_LIMIT_S, HelperDied, HelperProcess, HelperSilent
from gateway.sandbox.template_traits import Traits
from gateway.schema.template_options import fault_of_options
from gateway.settings import ServerSettings
from gateway.text.chat_templates import DEFAULT, TOOL_USE, load_chat_templates


def check_chat_templates(path: Path, server: ServerSettings, *, has_chats: bool = True) -> None:
    """Raise ModelError for a template, or for default variables, that no conversation could use.

    path: the model's. has_chats: it is served for text; others have templates that nobody uses.
    """
    if fault := fault_of_options(server.default_chat_template_kwargs):
        raise ModelError(f"--default-chat-template-kwargs{fault}")
    sources = load_chat_templates(path, server.chat_template)
    if server.chat_template:
        _check_syntax(sources[DEFAULT], server.chat_template)
    for name in (DEFAULT, TOOL_USE) if has_chats else ():
        if name in sources and _loses_users(sources[name]):
            where = f"--chat-template {server.chat_template}"
            if not server.chat_template:
                where = f"{path}: its chat template '{name}'"
            raise ModelError(
                f"{where}: {LOSES_USERS}.\n"
                "The model would answer without its question. Give another with --chat-template."
            )


def _check_syntax(source: str, name: str) -> None:
    # jinja2 takes 50 ms to import, which the supervisor has no other use for.
    import jinja2

    from gateway.sandbox.template_process import ChatRenderer

    try:
        ChatRenderer(Template(source, {}))
    except jinja2.TemplateSyntaxError as error:
        where = f"--chat-template {name}: line {error.lineno}"
        raise ModelError(f"{where}: {error.message}") from None


def _loses_users(source: str) -> bool:
    """Say whether a template drops what users say; no, where it cannot be told."""
    process = HelperProcess(TEMPLATE_PROCESS)
    try:
        greeting = msgspec.msgpack.encode(Template(source, {}))
        if process.exchange(greeting, START_LIMIT_S):
            return False  # it does not compile
        traits = process.exchange(b"", RENDER_TIMEOUT_S)
        return msgspec.msgpack.decode(traits, type=Traits).loses_users
    except (HelperDied, HelperSilent):
        return False
    finally:
        process.close()
