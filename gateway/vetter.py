"""Has grammars compiled by a process that may die of them, before any rank sees them.

A client writes grammars, so one may be made to take a compiler for ever or fill its memory. Owns
the one helper process (grammar_helper.py), its life and its limits, and the verdicts of the past.
Must not know where a grammar came from, nor HTTP. One Vetter per worker, called by grammars.py.

    frame           length u32, payload `length` bytes of msgpack
    vetter -> helper   Words, once; then Grammar, one at a time
    helper -> vetter   one Verdict for each of them
"""

import asyncio
import logging
import os
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from backend.wire.sampling import Grammar

logger = logging.getLogger(__name__)

FRAME_HEADER = struct.Struct("<I")
# Compiling each of tests/schemas.py took 2 ms, the worst of a hostile set 0.13 s.
CPU_LIMIT_S = 2.0
# Of the clock, for a helper that is starved or stopped; CPU_LIMIT_S is what a grammar gets.
CLOCK_LIMIT_S = 5.0
# Starting Python and reading 128,000 tokens took 0.7 s; a busy machine may take much longer.
START_LIMIT_S = 30.0
# Grammars are vetted in turn: who waits longer, or behind more than these, is turned away.
MAX_WAITING = 128
WAIT_LIMIT_S = 10.0
# Some thousands of schemas of the usual 1 or 2 KB.
CACHE_BYTES = 8 * 2**20
# A Verdict, a Grammar and their place in the cache, beside the texts.
ENTRY_BYTES = 1000

_TOO_SLOW = frozenset({signal.SIGPROF, signal.SIGXCPU})
_TOO_LARGE = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL})


class Words(msgspec.Struct, frozen=True, array_like=True):
    """The vocabulary for which grammars are compiled. pieces: see the wire's Vocabulary."""

    pieces: list[bytes]
    eos_token_ids: tuple[int, ...]


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """grammar: what to submit; the one asked about, or the same in another notation.

    error: why it cannot be used, for the caller; empty if it can.
    """

    grammar: Grammar | None = None
    error: str = ""


class GrammarRefused(ValueError):
    """No output can be held to this grammar. The message is for the caller."""


class VettingUnavailable(Exception):
    """No verdict now, through no fault of the grammar. The message is for the caller."""


class VettingQueueFull(VettingUnavailable):
    """Too much waits for the helper."""


class Vetter:
    """Vets grammars for one vocabulary."""

    def __init__(self, words: Callable[[], Words]) -> None:
        """words: called once, when the first helper starts; a ValueError of it refuses all."""
        self._words = words
        self._greeting: bytes | None = None
        self._helper: _Helper | None = None
        self._turn = asyncio.Lock()
        self._waiting: dict[Grammar, asyncio.Task[Verdict]] = {}
        self._verdicts: OrderedDict[Grammar, Verdict] = OrderedDict()
        self._cached_bytes = 0
        self._is_closed = False

    async def vet(self, grammar: Grammar) -> Grammar:
        """Return what to submit for a grammar, once it is known to compile.

        Raises GrammarRefused and VettingUnavailable.
        """
        verdict = self._verdicts.get(grammar)
        if verdict is None:
            verdict = await self._ask(grammar)
        else:
            self._verdicts.move_to_end(grammar)
        if verdict.grammar is None:
            raise GrammarRefused(verdict.error)
        return verdict.grammar

    async def close(self) -> None:
        """End the helper; who still waits gets no verdict, and nobody may ask any more."""
        self._is_closed = True
        if self._helper is not None:
            self._helper.process.kill()
        await asyncio.gather(*self._waiting.values(), return_exceptions=True)
        await self._drop_helper()

    async def _ask(self, grammar: Grammar) -> Verdict:
        task = self._waiting.get(grammar)
        if task is None:
            if len(self._waiting) >= MAX_WAITING:
                raise VettingQueueFull("too many grammars wait to be compiled")
            task = self._waiting[grammar] = asyncio.create_task(self._judge(grammar))
            task.add_done_callback(lambda task: self._forget(grammar, task))
        try:
            # The task outlives a request that is cancelled: others may wait for the same, and
            # the exchange with the helper must come to its end.
            async with asyncio.timeout(WAIT_LIMIT_S):
                return await asyncio.shield(task)
        except TimeoutError:
            message = f"it was not compiled within {WAIT_LIMIT_S:g} s"
            raise VettingUnavailable(message) from None

    def _forget(self, grammar: Grammar, task: asyncio.Task[Verdict]) -> None:
        del self._waiting[grammar]
        if not task.cancelled():
            task.exception()  # taken note of, though nobody may wait any more

    async def _judge(self, grammar: Grammar) -> Verdict:
        async with self._turn:
            try:
                verdict = await self._exchange(grammar)
            except BaseException:
                await self._drop_helper()  # whatever it was doing, the next one starts afresh
                raise
        self._remember(grammar, verdict)
        return verdict

    async def _exchange(self, grammar: Grammar) -> Verdict:
        try:
            if self._helper is None and not self._is_closed:
                self._helper = await _Helper.start(self._greet())
            if self._helper is None or self._is_closed:
                raise VettingUnavailable("the server is stopping")
            return await self._helper.ask(grammar, CLOCK_LIMIT_S)
        except TimeoutError:
            logger.warning("the grammar helper does not answer; replacing it")
            raise VettingUnavailable("the process that compiles them does not answer") from None
        except (EOFError, ConnectionError):
            return await self._post_mortem()

    async def _post_mortem(self) -> Verdict:
        """Turn the helper's death into a verdict, if the grammar is to blame for it."""
        if self._helper is None:
            raise VettingUnavailable("the process that compiles them does not start")
        status = await self._helper.process.wait()
        await self._drop_helper()
        if -status in _TOO_SLOW:
            return Verdict(error=f"it takes more than {CPU_LIMIT_S:g} s to compile")
        if -status in _TOO_LARGE:
            return Verdict(error="it takes too much memory to compile")
        logger.warning("the grammar helper ended with status %d; replacing it", status)
        raise VettingUnavailable("the process that compiles them was ended")

    def _greet(self) -> bytes:
        if self._greeting is None:
            try:
                self._greeting = msgspec.msgpack.encode(self._words())
            except ValueError as error:
                raise GrammarRefused(str(error)) from error
        return self._greeting

    async def _drop_helper(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            await helper.kill()

    def _remember(self, grammar: Grammar, verdict: Verdict) -> None:
        self._verdicts[grammar] = verdict
        self._cached_bytes += _size(grammar, verdict)
        while self._cached_bytes > CACHE_BYTES:
            self._cached_bytes -= _size(*self._verdicts.popitem(last=False))


class _Helper:
    """One life of the helper process. Ended by kill(), or by the death of this process."""

    def __init__(self, process: Process, death_fd: int) -> None:
        self.process = process
        self._death_fd = death_fd

    @classmethod
    async def start(cls, greeting: bytes) -> "_Helper":
        """Return a helper that has read its vocabulary. Raises TimeoutError and EOFError."""
        # Only this process has the write end, and no child inherits it: when it closes, the
        # kernel kills the helper. See backend/wire/lifeline.py.
        death_read, death_write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.grammar_helper"),
                *(str(death_read), str(os.getpid())),
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=(death_read,),
            )
        except BaseException:
            os.close(death_write)
            raise
        finally:
            os.close(death_read)
        helper = cls(process, death_write)
        try:
            await helper._converse(greeting, START_LIMIT_S)
        except BaseException:
            await helper.kill()
            raise
        return helper

    async def ask(self, grammar: Grammar, limit_s: float) -> Verdict:
        """Return the verdict. Raises TimeoutError, and EOFError or ConnectionError on its death."""
        reply = await self._converse(msgspec.msgpack.encode(grammar), limit_s)
        return msgspec.msgpack.decode(reply, type=Verdict)

    async def kill(self) -> None:
        """End the process, alive or not, and release what belongs to it."""
        if self.process.returncode is None:
            self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()
        if self._death_fd >= 0:
            os.close(self._death_fd)
            self._death_fd = -1

    async def _converse(self, payload: bytes, limit_s: float) -> bytes:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        async with asyncio.timeout(limit_s):
            stdin.write(FRAME_HEADER.pack(len(payload)) + payload)
            await stdin.drain()
            (length,) = FRAME_HEADER.unpack(await stdout.readexactly(FRAME_HEADER.size))
            return await stdout.readexactly(length)


def _size(grammar: Grammar, verdict: Verdict) -> int:
    texts = [grammar.text, verdict.error]
    if verdict.grammar is not None and verdict.grammar.text != grammar.text:
        texts.append(verdict.grammar.text)
    # A text of many scripts takes four bytes a character.
    return ENTRY_BYTES + sum(map(sys.getsizeof, texts))
