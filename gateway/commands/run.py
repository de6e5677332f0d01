"""`unisono run MODEL PROMPT`: serves a model for one answer, prints it, and leaves nothing behind.

Takes the flags of `serve`, but for where it listens. Without a prompt, a person in a terminal gets
a chat with it.
"""

import sys
from collections.abc import Mapping
from typing import Any

from gateway import options
from gateway.commands.chat import talk
from gateway.commands.own_server import served
from gateway.options import SettingsError
from gateway.terminal.chat_client import ChatClient, ChatError
from gateway.terminal.chat_settings import AskSettings, sampling_of
from gateway.terminal.conversation import Conversation
from gateway.terminal.one_answer import print_answer
from gateway.terminal.printer import Printer
from gateway.terminal.standard_input import piped_text


def run(given: Mapping[str, Any]) -> int:
    """Serve, ask, print and stop; return the exit status. Raises SettingsError."""
    ask_flags = {name: given[name] for name in AskSettings.__struct_fields__ if name in given}
    ask = options.read(AskSettings, ask_flags)
    flags = {name: value for name, value in given.items() if name not in (*ask_flags, "prompt")}
    prompt = "\n\n".join(filter(None, [given.get("prompt", ""), piped_text()]))
    if not prompt and not sys.stdin.isatty():
        raise SettingsError("what is to be answered? Give a PROMPT, or pipe a text in")
    conversation = Conversation(ask.system, sampling_of(ask, ask_flags))
    try:
        with served(flags) as client:
            if not prompt:
                return talk(client, "", conversation)
            return _answer(client, prompt, conversation)
    except ChatError as error:
        sys.exit(f"unisono: {error}")


def _answer(client: ChatClient, prompt: str, conversation: Conversation) -> int:
    """Answer as a chat where the model can, else continue the prompt."""
    [card, *_] = client.models()
    model, fields = str(card["id"]), conversation.fields
    if "chat" in card.get("capabilities", ()):
        conversation.ask(prompt)
        pieces = client.chat(model, conversation.messages, fields)
    elif conversation.system:
        raise ChatError(f"{model} has no chat template, so --system has no place")
    else:
        pieces = client.complete(model, prompt, fields)
    print_answer(pieces, Printer(sys.stdout))
    return 0
