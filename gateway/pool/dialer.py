"""Makes a worker's channels to groups on other machines, in threads: a handshake waits.

Knows addresses and epochs; what runs through a channel is the pool's business.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable

from backend.wire.channel import WorkerEnd
from backend.wire.control import Dial
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.ends import TcpWorkerEnd
from backend.wire.tcp.handshake import Hello
from backend.wire.tcp.stream import Stream

logger = logging.getLogger(__name__)

# A machine that is gone takes a thread for the time of a handshake.
MAX_THREADS = 8
# The supervisor has another try made at once when it hears that one has failed.
RETRY_SECONDS = 1.0


class Dialer:
    """Lives in the worker's event loop. Of a group only the channel that was asked for last counts.

    Its threads end with the process.
    """

    def __init__(
        self,
        connected: Callable[[int, int, WorkerEnd], None],
        failed: Callable[[int, int], None],
        retry_s: float = RETRY_SECONDS,
    ) -> None:
        """connected: gets replica, epoch and the channel. failed: replica and epoch, a while after
        the failure; both are called in the loop."""
        self._connected = connected
        self._failed = failed
        self._retry_s = retry_s
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[int, int] = {}  # replica -> epoch
        self._tasks: queue.SimpleQueue[Dial] = queue.SimpleQueue()
        self._num_threads = 0

    def dial(self, message: Dial) -> None:
        """Make a channel; what is under way to the same group is dropped."""
        self._wanted[message.replica] = message.epoch
        self._tasks.put(message)
        if self._num_threads < min(MAX_THREADS, len(self._wanted)):
            self._num_threads += 1
            threading.Thread(target=self._work, name="dialer", daemon=True).start()

    def forget(self, replica: int, epoch: int) -> None:
        """Drop what is under way, if it is this."""
        if self._wanted.get(replica) == epoch:
            del self._wanted[replica]

    def _work(self) -> None:
        while True:
            message = self._tasks.get()
            result: Stream | DialError
            try:
                hello = Hello(
                    message.gateway, message.worker, message.epoch, message.address.incarnation
                )
                result = dial(message.address, hello)
            except DialError as error:
                result = error
            try:
                self._loop.call_soon_threadsafe(self._take, message, result)
            except RuntimeError:  # the loop is closed
                if isinstance(result, Stream):
                    result.close()
                return

    def _take(self, message: Dial, result: Stream | DialError) -> None:
        is_wanted = self._wanted.get(message.replica) == message.epoch
        if isinstance(result, DialError):
            if is_wanted:
                logger.warning("group=%d: %s", message.replica, result)
                self._loop.call_later(self._retry_s, self._fail, message)
        elif is_wanted:
            del self._wanted[message.replica]
            self._connected(message.replica, message.epoch, TcpWorkerEnd(result))
        else:
            result.close()

    def _fail(self, message: Dial) -> None:
        if self._wanted.get(message.replica) == message.epoch:
            del self._wanted[message.replica]
            self._failed(message.replica, message.epoch)
