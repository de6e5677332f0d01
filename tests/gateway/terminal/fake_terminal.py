"""A stream that says it is a terminal, and keeps what is written to it."""

import io


class FakeTerminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        return True
