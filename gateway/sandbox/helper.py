"""A process that does for a worker what may take for ever, fill memory or crash.

Owns the process, from its start when first needed to its replacement when it has died, and the
thread that talks to it, so that the event loop never waits. Must not know what is asked. Used by
grammar_validator.py and chat_template.py; the other side is helper_process.py.

    frames of multiprocessing's Connection, bytes only
    worker -> helper   the greeting, once; then requests, one at a time
    helper -> worker   to the greeting why it cannot be served, or nothing; then an answer each
"""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# Starting Python and reading 128,000 tokens took 0.7 s; a busy machine may take much longer.
START_LIMIT_S = 30.0
# Requests take turns; while a slow one runs, more than these are turned away.
MAX_WAITING = 128


class HelperBusy(Exception):
    """Too many requests wait for their turn."""


class HelperSilent(Exception):
    """No answer came in time. The process has been ended."""


class HelperRefused(Exception):
    """The helper cannot work with its greeting; the message is its own."""


class HelperDied(Exception):
    """The process ended over a request. signal: what killed it, 0 if it exited."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it ended with status {status}")
        self.signal = max(0, -status)


class Helper:
    """A helper process, or the means to have one."""

    def __init__(self, module: str, greeting: Callable[[], bytes]) -> None:
        """module: run as the process. greeting: called for each start of it; what it raises goes to
        whoever asked."""
        self._module = module
        self._greeting = greeting
        self._process: HelperProcess | None = None
        self._num_waiting = 0
        self._is_closed = False
        # One thread: requests take turns, and a stuck one never occupies the default executor.
        self._executor = ThreadPoolExecutor(1, module.rpartition(".")[2])

    async def ask(self, request: Callable[[], bytes], limit_s: float) -> bytes:
        """Return the answer to a request, which is made in the thread.

        Raises HelperBusy, HelperSilent, HelperRefused, HelperDied, and what making the request or
        the greeting raises. Whatever happened, and if the caller is cancelled, the next may ask.
        """
        if self._num_waiting >= MAX_WAITING or self._is_closed:
            raise HelperBusy
        self._num_waiting += 1
        job = asyncio.get_running_loop().run_in_executor(
            self._executor, self._exchange, request, limit_s
        )
        job.add_done_callback(self._forget)  # it outlives a caller that is cancelled
        return await asyncio.shield(job)

    def close(self) -> None:
        """End the process; requests under way fail, and nobody may ask any more."""
        self._is_closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        # The thread may be about to end it.
        if (process := self._process) is not None:
            process.kill()
        self._executor.shutdown()
        self._end_process()

    def _forget(self, job: "asyncio.Future[bytes]") -> None:
        self._num_waiting -= 1
        if not job.cancelled():
            job.exception()  # taken note of, though nobody may wait any more

    def _exchange(self, request: Callable[[], bytes], limit_s: float) -> bytes:
        """Runs in the thread, as does all that follows."""
        payload = request()
        try:
            if self._process is None or not self._process.is_alive:
                self._start_process()
            assert self._process is not None
            return self._process.exchange(payload, limit_s)
        except (HelperSilent, HelperRefused, HelperDied):
            self._end_process()
            raise

    def _start_process(self) -> None:
        self._end_process()
        greeting = self._greeting()
        self._process = HelperProcess(self._module)
        if self._is_closed:  # close() may have found no process yet
            self._process.kill()
        if refusal := self._process.exchange(greeting, START_LIMIT_S):
            raise HelperRefused(refusal.decode())

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()


class HelperProcess:
    """One process, from its start to its end, whoever brings that about."""

    def __init__(self, module: str) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        # Only this process has the write end, and no child inherits it: when it closes, the
        # kernel kills the helper. See backend/wire/local/lifeline.py.
        death_read_fd, self._death_fd = os.pipe()
        fds = (theirs.fileno(), death_read_fd)
        command = [sys.executable, "-m", module, *map(str, fds), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=fds
            )
        finally:
            theirs.close()
            os.close(death_read_fd)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def exchange(self, payload: bytes, limit_s: float) -> bytes:
        """Send one frame and return the answer. Raises HelperSilent and HelperDied."""
        try:
            self._connection.send_bytes(payload)
            if self._connection.poll(limit_s):
                return self._connection.recv_bytes()
        except (EOFError, OSError):
            raise HelperDied(self._status()) from None
        raise HelperSilent

    def kill(self) -> None:
        """End the process, alive or not."""
        self._process.kill()

    def close(self) -> None:
        """End the process and release what belongs to it."""
        self.kill()
        self._process.wait()
        self._connection.close()
        os.close(self._death_fd)

    def _status(self) -> int:
        try:
            return self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:  # it closed its end, and lives
            self.kill()
            return self._process.wait()
