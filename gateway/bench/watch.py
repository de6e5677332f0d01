"""What a person sees while a measurement runs: bars on a terminal, nothing elsewhere.

Drawing costs the processor that is being measured: two pictures a second.
"""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PICTURES_A_SECOND = 2


class Watch:
    """Is told how a load gets on; this one keeps it to itself."""

    def begins(self, label: str, num_requests: int) -> None:
        """A level begins that has so many requests."""

    def answered(self, num_tokens: int = 0) -> None:
        """One of them is over, with so many tokens."""

    def prepares(self, label: str) -> None:
        """Something goes on whose length nobody knows, such as a server's start."""


SILENT = Watch()


class Bars(Watch):
    """A context with one bar for all levels and one for the requests of the level under way.

    num_levels: None where it is not known beforehand.
    """

    def __init__(self, title: str, num_levels: int | None, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            refresh_per_second=_PICTURES_A_SECOND,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._levels = self._progress.add_task(title, total=num_levels)
        self._requests: TaskID | None = None
        self._title = title
        self._num_begun = 0
        self._label = ""
        self._num_tokens, self._begun_s = 0, 0.0

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begins(self, label: str, num_requests: int) -> None:
        """Show a new bar for the requests of a level, and count those before it as done."""
        self._progress.update(self._levels, completed=self._num_begun)
        self._num_begun += 1
        self._replace(label, num_requests)

    def answered(self, num_tokens: int = 0) -> None:
        """Move the bar of the level on; its label has the tokens/s so far."""
        if self._requests is None:
            return
        self._num_tokens += num_tokens
        rate = self._num_tokens / max(1e-9, time.perf_counter() - self._begun_s)
        label = f"{self._label}, {rate:.0f} tokens/s" if self._num_tokens else self._label
        self._progress.update(self._requests, advance=1, description=label)

    def prepares(self, label: str) -> None:
        """Show a bar that moves without an end."""
        self._replace(label, None)

    def says(self, title: str) -> None:
        """Change what stands before the bar of all levels; elsewhere than on a terminal that is a
        line."""
        self._progress.update(self._levels, description=title)
        if not self.console.is_terminal:
            self.prints(title)

    def skips(self, num_levels: int) -> None:
        """Count levels as done that will not be measured."""
        self._num_begun += num_levels
        self._progress.update(self._levels, completed=self._num_begun)

    def prints(self, line: str) -> None:
        """Write a line above the bars."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _replace(self, label: str, total: int | None) -> None:
        if self._requests is not None:
            self._progress.remove_task(self._requests)
        self._label = label
        self._num_tokens, self._begun_s = 0, time.perf_counter()
        self._requests = self._progress.add_task(label, total=total)
