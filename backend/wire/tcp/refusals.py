"""Counts connections that came to nothing, and says so now and then. Knows no secret."""

import logging
from collections import Counter


class Refusals:
    """counts: by reason. Not for several threads at a time."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        """what: who called, for the log: "connection from", say."""
        self.counts: Counter[str] = Counter()
        self._logger = logger
        self._what = what

    def note(self, reason: str, peer: str) -> None:
        """Count one; its reason is logged the 1st, 2nd, 4th, 8th time: nobody may fill the log."""
        self.counts[reason] += 1
        count = self.counts[reason]
        if count & (count - 1) == 0:
            self._logger.warning("%s %s refused: %s; %d so far", self._what, peer, reason, count)
