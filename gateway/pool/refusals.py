"""Why the pool takes no sequence: raised by ReplicaPool.submit().

The words for clients stand in answers/delivery.py.
"""

TOO_LATE = "The request's time was up before it could be started."
LOST = "The process that computed this completion died, and no other could go on with it."
CUT_OFF = "The server was stopped. This answer ends here, and nothing goes on with it."
POISONOUS = "The processes that computed this completion died twice. It is not tried again."


class PoolNotReady(Exception):
    """No group can take work now."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("no group is ready")
        self.retry_after_s = retry_after_s


class QueueFull(Exception):
    """Too many sequences wait already."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_s = retry_after_s


class Poisonous(Exception):
    """A request like this one has ended two groups lately."""
