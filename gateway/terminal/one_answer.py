"""Prints one answer, for commands that ask once."""

import sys

from gateway.terminal.chat_client import Answer
from gateway.terminal.printer import Printer


def print_answer(pieces: Answer, printer: Printer) -> None:
    """Print an answer as it comes, and end its last line whatever happens."""
    try:
        for piece in pieces:
            printer.piece(piece)
    finally:
        printer.end()
        sys.stdout.flush()
