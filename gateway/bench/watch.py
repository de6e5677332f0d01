"""What a person sees while a measurement runs: bars on a terminal, nothing elsewhere.

Drawing costs the processor that is being measured: two pictures a second. Knows no figures.
"""

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

    def answered(self) -> None:
        """One of them is over."""


SILENT = Watch()


class Bars(Watch):
    """A context with one bar for all levels and one for the requests of the level under way."""

    def __init__(self, title: str, num_levels: int, console: Console | None = None) -> None:
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
        if self._requests is not None:
            self._progress.remove_task(self._requests)
        self._progress.update(self._levels, completed=self._num_begun)
        self._num_begun += 1
        self._requests = self._progress.add_task(label, total=num_requests)

    def answered(self) -> None:
        """Move the bar of the level on."""
        if self._requests is not None:
            self._progress.advance(self._requests)

    def says(self, title: str) -> None:
        """Change what stands before the bar of all levels."""
        self._progress.update(self._levels, description=title)

    def skips(self, num_levels: int) -> None:
        """Count levels as done that will not be measured."""
        self._num_begun += num_levels
        self._progress.update(self._levels, completed=self._num_begun)

    def prints(self, line: str) -> None:
        """Write a line above the bars."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
