"""The sequences of one request, from submit to the last of them or the first trouble.

Owns what is the same whatever comes of them: all are submitted or none, a deadline, the end of all
at once, what went where when. Must not know what a sequence becomes. Driven by the pool's frames,
in the event loop.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from backend.wire.messages import SeqOutput
from gateway.errors import ApiError, deadline_exceeded, engine_failed
from gateway.pool.refusals import CUT_OFF
from gateway.pool.submit_options import SubmitOptions
from gateway.telemetry.exchange import Timings

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool

T = TypeVar("T")


class Submission(ABC, Generic[T]):
    """The pool's receiver for each sequence, which is one T.

    A sequence is open while the pool may still send for it; close() aborts the open ones.
    """

    def __init__(self, pool: "ReplicaPool", options: SubmitOptions | None) -> None:
        self.timings = Timings()
        self._pool = pool
        self._options = options or SubmitOptions()
        self._open: dict[int, T] = {}  # by seq_id
        self._is_starting = False
        self._early: list[SeqOutput] = []
        self._timer: asyncio.TimerHandle | None = None
        self._error: ApiError | None = None

    def start(self) -> None:
        """Submit every sequence, in order.

        Raises what pool.check_room() and submit() raise, and ApiError if it is too late; nothing is
        submitted then.
        """
        options = self._options
        if options.is_expired:
            raise deadline_exceeded(options.timeout_s)
        self._pool.check_room(options.tenant, options.group)
        self.timings.submitted = time.monotonic()
        self._is_starting = True
        try:
            for part in self._parts():
                self._open[self._submit(part)] = part
        except BaseException:
            self.close()
            raise
        self._is_starting = False
        self._begin()
        if self._open and options.deadline:
            delay_s = max(0.0, options.deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)
        for output in self._early:
            self.receive(output)

    def sent(self, seq_id: int) -> None:
        """Note that a sequence has left the pool's queue for a group."""
        if not self.timings.sent:
            self.timings.sent = time.monotonic()

    @abstractmethod
    def receive(self, output: SeqOutput) -> None:
        """Take what one sequence got in a step.

        What comes while _is_starting was refused by the pool before submit() returned: it belongs
        into _early. What is not open was on its way when the sequence was aborted.
        """

    def close(self) -> None:
        """Abort what is still open. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        open_ids = list(self._open)
        self._open.clear()
        for seq_id in open_ids:
            self._pool.abort(seq_id)

    @abstractmethod
    def _parts(self) -> Iterable[T]:
        """Return what is to be submitted."""

    @abstractmethod
    def _submit(self, part: T) -> int:
        """Submit one sequence and return its seq_id."""

    def _begin(self) -> None:
        """Do what comes between the last submit and the first output: nothing, as a rule."""

    @abstractmethod
    def _tell(self, error: ApiError) -> None:
        """Pass on why the request cannot be completed."""

    def _note_end(self) -> None:
        """Note that all is there."""
        if self._timer is not None:
            self._timer.cancel()
        self.timings.finished = time.monotonic()

    def _expire(self) -> None:
        self._fail(deadline_exceeded(self._options.timeout_s))

    def _fail(self, error: ApiError) -> None:
        if self._options.is_expired:  # the engine watches the deadline, too, and may be the first
            error = deadline_exceeded(self._options.timeout_s)
        self._error = error
        self.close()
        self._tell(error)


def failure(output: SeqOutput) -> ApiError:
    """Return what a sequence that was given up is answered with."""
    if output.error == CUT_OFF:
        return ApiError(500, CUT_OFF, code="server_stopped")
    message = output.error or "The engine gave the request up."
    return engine_failed(message, is_final=output.is_final)
