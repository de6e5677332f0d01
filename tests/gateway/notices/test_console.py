"""What the supervisor says, and to whom it need not."""

import os

from gateway.notices.console import Console


def test_it_goes_on_when_nobody_listens_any_more() -> None:
    """`unisono serve 2>&1 | head -1` never stopped: saying that it was about to failed first."""
    reader, writer = os.pipe()
    speaker = Console(stream=os.fdopen(writer, "w"))
    speaker.say("one\ntwo")
    assert os.read(reader, 100) == b"unisono: one\nunisono: two\n"
    os.close(reader)
    speaker.say("stopping")
    speaker.show(["a", "b"])
    speaker.rewrite("half a line")
    speaker.end_line()
    try:
        speaker.stream.close()
    except BrokenPipeError:
        pass  # what it could not say is still in its buffer
