"""`unisono chat`: talks with a model in the terminal, or answers what is piped in and exits.

With a running server, any that is OpenAI-compatible; with `--model` alone, with one of its own.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from gateway import options
from gateway.client_key import HINT, key_for
from gateway.commands.own_server import served
from gateway.options import SettingsError
from gateway.terminal.chat_client import ChatClient, ChatError
from gateway.terminal.chat_loop import ChatLoop, line_reader
from gateway.terminal.chat_settings import ChatSettings, sampling_of
from gateway.terminal.conversation import Conversation
from gateway.terminal.one_answer import print_answer
from gateway.terminal.printer import Printer
from gateway.terminal.standard_input import piped_text

DEFAULT_URL = "http://127.0.0.1:8000"


def run(flags: Mapping[str, Any]) -> int:
    """Talk until the person leaves, or the one answer is printed. Raises SettingsError."""
    settings = options.read(ChatSettings, flags)
    conversation = Conversation(settings.system, sampling_of(settings, flags))
    try:
        if settings.model and not settings.url:
            with served({"model": settings.model}) as client:
                return talk(client, "", conversation)
        url = settings.url or DEFAULT_URL
        return talk(_client(url, settings.api_key), settings.model, conversation)
    except ChatError as error:
        hint = f"; {HINT}" if " answers 401" in str(error) else ""
        sys.exit(f"unisono: {error}{hint}")


def talk(client: ChatClient, model: str, conversation: Conversation) -> int:
    """Talk with a model, "" for the server's first. Raises ChatError if that cannot be begun."""
    cards = client.models()
    model = model or str(cards[0]["id"])
    printer = Printer(sys.stdout)
    if question := piped_text():
        conversation.ask(question)
        pieces = client.chat(model, conversation.messages, conversation.fields)
        print_answer(pieces, printer)
        return 0
    if not sys.stdin.isatty():
        raise ChatError("nothing was piped in")
    ChatLoop(client, model, conversation, printer, line_reader()).run()
    return 0


def _client(url: str, api_key: str) -> ChatClient:
    key = key_for(url, api_key, os.environ)
    try:
        return ChatClient(url, key)
    except ValueError as error:
        raise SettingsError(f"--url: {error}") from error
