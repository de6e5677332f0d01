"""Keys through a pseudo-terminal."""

import os
import pty
import termios

from gateway.top.keyboard import Keyboard


def echoes(fd: int) -> bool:
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO)


def test_q_quits_other_keys_do_not_and_none_is_shown() -> None:
    outer, inner = pty.openpty()
    with open(inner) as stream, open(outer, "wb", buffering=0) as typist:
        with Keyboard(stream) as keyboard:
            assert not echoes(inner)
            assert not keyboard.quits_within(0.0)
            typist.write(b"x")
            assert not keyboard.quits_within(5.0)
            typist.write(b"q")
            assert keyboard.quits_within(5.0)
        assert echoes(inner)


def test_without_a_terminal_time_passes() -> None:
    reader, writer = os.pipe()
    with open(reader) as stream, open(writer, "w"):
        with Keyboard(stream) as keyboard:
            assert not keyboard.quits_within(0.0)
