"""Looks at chat templates and their variables before anything is spawned.

Owns the words for what an operator got wrong. What is wrong with a model's own template is told to
who sends it a conversation: its completions can be served.
"""

from pathlib import Path

from backend.config.errors import ModelError
from gateway.notations.served import notation_of
from gateway.schema.template_options import fault_of_options
from gateway.settings import ServerSettings
from gateway.text.chat_templates import DEFAULT, load_chat_templates


def check_chat_templates(path: Path, server: ServerSettings) -> None:
    """Raise ModelError for a template, default variables or a notation that nothing could use.

    path: the model's.
    """
    if fault := fault_of_options(server.default_chat_template_kwargs):
        raise ModelError(f"--default-chat-template-kwargs{fault}")
    sources = load_chat_templates(path, server.chat_template)
    notation_of(path, sources, server.tool_notation, server.reasoning_notation)
    if not server.chat_template:
        return
    # jinja2 takes 50 ms to import, which the supervisor has no other use for.
    import jinja2

    from gateway.sandbox.chat_template import Template
    from gateway.sandbox.template_process import ChatRenderer

    try:
        ChatRenderer(Template(sources[DEFAULT], {}))
    except jinja2.TemplateSyntaxError as error:
        where = f"--chat-template {server.chat_template}: line {error.lineno}"
        raise ModelError(f"{where}: {error.message}") from None
