"""What the supervisor says, and to whom it need not."""

import os

from gateway.notices.console import Console


def test_it_goes_on_when_nobody_listens_any_more() -> None:
    """`unisono serve 2>&1 | head -1` never stopped: saying that it was about to failed first."""
    reader, writer = os.pipe()
    console = Console(stream=os.fdopen(writer, "w"))
    console.say("one\ntwo")
    assert os.read(reader, 100) == b"unisono: one\nunisono: two\n"
    os.close(reader)
    console.say("stopping")
    console.show(["a", "b"])
    console.rewrite("half a line")
    console.end_line()
    try:
        console.stream.close()
    except BrokenPipeError:
        pass  # what it could not say is still in its buffer
