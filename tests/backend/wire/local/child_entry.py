"""What the children of test_child.py run."""

import sys

from backend.wire.control import ControlClosed, Pong
from backend.wire.local.child import ChildContext


def echo_main(context: ChildContext, text: str, status: int) -> None:
    """Say a text on standard error and Pong on the line; exit once told anything."""
    line = context.begin()
    print(text, file=sys.stderr, flush=True)
    line.send(Pong())
    sock = context.control
    sock.setblocking(True)
    try:
        line.receive()
    except ControlClosed:
        return
    sys.exit(status)
