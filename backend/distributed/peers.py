"""Watches the other ranks of a group on this machine, so that none is waited for that is gone."""

import contextlib
import os
import select
import threading
from collections.abc import Callable, Sequence


class PeerWatch:
    """Calls back once when any of some processes has ended, from a thread of its own."""

    def __init__(self, pids: Sequence[int], on_end: Callable[[int], None]) -> None:
        """on_end: told which place in pids ended, maybe at once."""
        self._on_end = on_end
        self._pids = list(pids)
        # Taken now: a number could be another's by the time the thread looks.
        self._pidfds = [_pidfd(pid) for pid in pids]
        threading.Thread(target=self._watch, name="peers", daemon=True).start()

    def _watch(self) -> None:
        poll, places = select.poll(), {}
        for place, fd in enumerate(self._pidfds):
            if fd is None:
                self._on_end(place)
                return
            poll.register(fd, select.POLLIN)
            places[fd] = place
        ended = poll.poll()[0][0]
        for fd in places:
            os.close(fd)
        self._on_end(places[ended])


def _pidfd(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None
