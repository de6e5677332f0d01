"""The keys of the terminal that `unisono top` runs in: taken one at a time, not shown."""

import os
import select
import termios
import time
import tty
from types import TracebackType
from typing import Self, TextIO

QUIT = b"qQ"


class Keyboard:
    """A terminal without echo while in use; nothing but a clock where there is none."""

    def __init__(self, stream: TextIO) -> None:
        self._fd = stream.fileno() if stream.isatty() else None

    def __enter__(self) -> Self:
        if self._fd is not None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)  # Ctrl-C stays a signal
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._fd is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def quits_within(self, seconds: float) -> bool:
        """Wait so long, less if a key is hit; say whether it was `q`, or the terminal has gone."""
        if self._fd is None:
            time.sleep(seconds)
            return False
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        typed = os.read(self._fd, 64)
        return not typed or bool(set(typed) & set(QUIT))
