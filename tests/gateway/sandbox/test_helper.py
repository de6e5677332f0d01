"""The means to have a helper, and what its loop and its thread may do at the same time."""

from gateway.sandbox.helper import Helper, HelperProcess


class Ended:
    """A process that somebody ends."""

    num_kills = 0

    def kill(self) -> None:
        self.num_kills += 1


class Looked(Helper):
    """One whose thread gives its process up between two looks of the loop."""

    process = Ended()
    looks = 0

    @property
    def _process(self) -> HelperProcess | None:
        self.looks += 1
        return self.process if self.looks == 1 else None  # type: ignore[return-value]

    @_process.setter
    def _process(self, process: HelperProcess | None) -> None:
        self.looks = 0


def test_helper_may_end_by_itself_while_it_is_closed() -> None:
    """close() looked twice, and its thread may have taken the process away in between."""
    helper = Looked("module", lambda: b"")
    helper.close()
    assert helper.process.num_kills == 1
