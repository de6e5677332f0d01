"""What each worker was last told of a group's credit, and whether a frame would be news to it."""

# A worker hears at least so often that the group gets on.
MOST_SILENT_S = 0.1


class ToldCredits:
    """Written and asked by the lead, by worker."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[int, float]] = {}

    def is_news(self, worker: int, credit: int, now_s: float) -> bool:
        """Whether a worker should be told: whether there is any credit, or twice as much as it
        knows of, or half; and everything if it has heard nothing for MOST_SILENT_S."""
        if (last := self._told.get(worker)) is None:
            return True
        told, when_s = last
        return now_s - when_s >= MOST_SILENT_S or not told <= 2 * credit <= 4 * told

    def note(self, worker: int, credit: int, now_s: float) -> None:
        """A worker has been told."""
        self._told[worker] = credit, now_s

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        self._told.pop(worker, None)
