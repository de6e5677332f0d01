"""Has grammars compiled by a process that may die of them, before any rank sees them.

A client writes grammars, so one may be made to take a compiler for ever or fill its memory: a
helper process (grammar_process.py) tries. Owns the results of the past, and what the death of a
helper says about a grammar. Must not know where a grammar came from, nor HTTP. There is one
GrammarValidator a worker, called by grammars.py.
"""

import asyncio
import logging
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from backend.wire.sampling import Grammar
from gateway.sandbox.helper import Helper, HelperBusy, HelperDied, HelperSilent

logger = logging.getLogger(__name__)

# The clock ends a helper that is starved or stopped; what a grammar gets is counted in work.
CLOCK_LIMIT_S = 20.0
# Grammars are validated in turn: who waits longer is turned away.
WAIT_LIMIT_S = 10.0
# It holds some thousands of schemas of the usual 1 or 2 KB.
CACHE_BYTES = 8 * 2**20
# A ValidationResult, a Grammar and their place in the cache take so much beside the texts.
ENTRY_BYTES = 1000

_TOO_SLOW = frozenset({signal.SIGPROF, signal.SIGXCPU})
_TOO_LARGE = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL})


class GrammarVocabulary(msgspec.Struct, frozen=True, array_like=True):
    """The vocabulary for which grammars are compiled. pieces: see the wire's Vocabulary."""

    pieces: list[bytes]
    eos_token_ids: tuple[int, ...]


class ValidationResult(msgspec.Struct, frozen=True, array_like=True):
    """grammar: what to submit; the one asked about, the same in another notation, or what of a
    JSON schema can be enforced.

    error: why it cannot be used, for the caller; empty if it can. path: of the keyword of a schema
    that is to blame, if one is. not_enforced: the paths of those that the grammar leaves out.
    """

    grammar: Grammar | None = None
    error: str = ""
    path: str = ""
    not_enforced: tuple[str, ...] = ()


class GrammarRefused(ValueError):
    """No output can be held to this grammar. The message is for the caller.

    path: of the keyword of a JSON schema that is to blame; empty if none is.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ValidationUnavailable(Exception):
    """No result now, through no fault of the grammar. The message is for the caller."""


class ValidationQueueFull(ValidationUnavailable):
    """Too much waits for the helper."""


class GrammarValidator:
    """Validates grammars for one vocabulary."""

    def __init__(self, vocabulary: Callable[[], GrammarVocabulary]) -> None:
        """vocabulary: called once, when the first helper starts; a ValueError of it refuses all."""
        self._vocabulary = vocabulary
        self._greeting: bytes | None = None
        self._helper = Helper("gateway.sandbox.grammar_process", self._greet)
        self._waiting: dict[Grammar, asyncio.Task[ValidationResult]] = {}
        self._results: OrderedDict[Grammar, ValidationResult] = OrderedDict()
        self._cached_bytes = 0

    async def validate(self, grammar: Grammar) -> Grammar:
        """Return what to submit for a grammar, once it is known to compile.

        Raises GrammarRefused and ValidationUnavailable.
        """
        return (await self.validate_schema(grammar))[0]

    async def validate_schema(self, grammar: Grammar) -> tuple[Grammar, Sequence[str]]:
        """Do what validate() does; return the paths of what is left out of a JSON schema, too.

        One that says {"x-guidance": {"lenient": true}} is enforced as far as possible, another
        wholly, but for formats that are not known.
        """
        result = self._results.get(grammar)
        if result is None:
            result = await self._ask(grammar)
        else:
            self._results.move_to_end(grammar)
        if result.grammar is None:
            raise GrammarRefused(result.error, result.path)
        return result.grammar, result.not_enforced

    async def close(self) -> None:
        """End the helper; who still waits gets no result, and nobody may ask any more."""
        self._helper.close()
        await asyncio.gather(*self._waiting.values(), return_exceptions=True)

    async def _ask(self, grammar: Grammar) -> ValidationResult:
        task = self._waiting.get(grammar)
        if task is None:
            task = self._waiting[grammar] = asyncio.create_task(self._judge(grammar))
            task.add_done_callback(lambda task: self._forget(grammar, task))
        try:
            # The task outlives a request that is cancelled: others may wait for the same, and
            # the exchange with the helper must come to its end.
            async with asyncio.timeout(WAIT_LIMIT_S):
                return await asyncio.shield(task)
        except TimeoutError:
            message = f"it was not compiled within {WAIT_LIMIT_S:g} s"
            raise ValidationUnavailable(message) from None

    def _forget(self, grammar: Grammar, task: asyncio.Task[ValidationResult]) -> None:
        del self._waiting[grammar]
        if not task.cancelled():
            task.exception()  # taken note of, though nobody may wait any more

    async def _judge(self, grammar: Grammar) -> ValidationResult:
        try:
            answer = await self._helper.ask(lambda: msgspec.msgpack.encode(grammar), CLOCK_LIMIT_S)
            result = msgspec.msgpack.decode(answer, type=ValidationResult)
        except HelperBusy:
            raise ValidationQueueFull("too many grammars wait to be compiled") from None
        except HelperSilent:
            logger.warning("the grammar helper did not answer; ended")
            message = "the process that compiles them did not answer"
            raise ValidationUnavailable(message) from None
        except HelperDied as death:
            result = _post_mortem(death)
        self._remember(grammar, result)
        return result

    def _greet(self) -> bytes:
        if self._greeting is None:
            try:
                self._greeting = msgspec.msgpack.encode(self._vocabulary())
            except ValueError as error:
                raise GrammarRefused(str(error)) from error
        return self._greeting

    def _remember(self, grammar: Grammar, result: ValidationResult) -> None:
        self._results[grammar] = result
        self._cached_bytes += _size(grammar, result)
        while self._cached_bytes > CACHE_BYTES:
            self._cached_bytes -= _size(*self._results.popitem(last=False))


def _post_mortem(death: HelperDied) -> ValidationResult:
    """Turn the helper's death into a result, if the grammar is to blame for it."""
    if death.signal in _TOO_SLOW:
        return ValidationResult(error="it is too complex to compile")
    if death.signal in _TOO_LARGE:
        return ValidationResult(error="it takes too much memory to compile")
    logger.warning("the grammar helper died: %s", death)
    raise ValidationUnavailable("the process that compiles them was ended")


def _size(grammar: Grammar, result: ValidationResult) -> int:
    texts = [grammar.text, result.error, *result.not_enforced]
    if result.grammar is not None and result.grammar.text != grammar.text:
        texts.append(result.grammar.text)
    # A text of many scripts takes four bytes a character.
    return ENTRY_BYTES + sum(map(sys.getsizeof, texts))
