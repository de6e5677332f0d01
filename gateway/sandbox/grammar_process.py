"""Compiles grammars in a process of its own.

The kernel kills it when a grammar takes too much time (a CPU timer) or memory (a limit). Does what
the lead rank will do, with the same table of tokens, and some steps of an output besides: a grammar
may compile and be too costly to follow. Time is counted in that of a known grammar on this machine,
so that what passes on one does on any. Knows nothing of requests. The greeting is a
GrammarVocabulary, a request a Grammar, its answer a ValidationResult. Started by
grammar_validator.py.
"""

import os
import random
import sys
import time
from collections.abc import Callable

import msgspec
import numpy as np

from backend.structured_output.grammar import (
    OPTIONS,
    GrammarError,
    GrammarTable,
    Matcher,
    read_schema,
    to_lark,
    with_options,
)
from backend.structured_output.json_schema import Schema, SchemaFault, prepare
from backend.structured_output.schema_loosening import enforceable
from backend.wire.sampling import Grammar
from gateway.sandbox.grammar_validator import GrammarVocabulary, ValidationResult
from gateway.sandbox.helper_process import cpu_limit, limit_memory, serve

# What takes as long as this is one unit of work: 8 ms where it was written, of which 128 tools with
# patterns and formats took 14, and an integer that is a multiple of 99,991 took 53.
YARDSTICK = Grammar(
    "json_schema",
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                f"{format}{number}": {"type": "string", "format": format, "maxLength": 40 + number}
                for format in ("date-time", "email", "uuid", "uri")
                for number in range(4)
            },
            "additionalProperties": False,
        }
    ).decode(),
)
NUM_MEASUREMENTS = 3
# A lead that compiles a valid grammar stops every stream of its group for so long. The usual is a
# quarter of a unit.
MAX_COMPILE_UNITS = 30
# So many, for all that is tried of a grammar, and the process is ended.
MAX_UNITS = 200
# It is what a grammar may take beyond the vocabulary.
MEMORY_LIMIT_BYTES = 256 * 2**20
# So many outputs are tried, for so many tokens each. Costly grammars showed it within a handful of
# tokens, on one way of two: 1,500 optional properties are too many after `{"`, and unnoticed after
# `{}`.
NUM_TRIALS = 4
NUM_TRIAL_TOKENS = 16


def begin(greeting: bytes) -> Callable[[bytes], bytes]:
    """Read the vocabulary; return what answers a grammar with a ValidationResult."""
    # Our own mistakes are for the log; what native code prints when it dies of a grammar is not.
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    vocabulary = msgspec.msgpack.decode(greeting, type=GrammarVocabulary)
    # Nothing is kept: the next grammar must not pay for the memory of this one.
    table = GrammarTable(vocabulary.pieces, vocabulary.eos_token_ids, max_compiled=1)
    limit_memory(MEMORY_LIMIT_BYTES)

    unit_s = min(_seconds(table) for _ in range(NUM_MEASUREMENTS))
    trial = Trial(table, len(vocabulary.pieces), max_compile_s=MAX_COMPILE_UNITS * unit_s)

    def answer(request: bytes) -> bytes:
        with cpu_limit(MAX_UNITS * unit_s):
            return msgspec.msgpack.encode(
                validate(msgspec.msgpack.decode(request, type=Grammar), trial)
            )

    return answer


class Trial:
    """Tries grammars with one table of tokens, num_tokens of them."""

    def __init__(self, table: GrammarTable, num_tokens: int, max_compile_s: float) -> None:
        """max_compile_s: of processor time, for one grammar."""
        self._table = table
        self._num_tokens = num_tokens
        self._max_compile_s = max_compile_s

    def run(self, grammar: Grammar) -> None:
        """Compile a grammar and follow it for some tokens. Raises GrammarError; may not return."""
        started_s = time.process_time()
        matcher = self._table.matcher(grammar)
        if time.process_time() - started_s > self._max_compile_s:
            raise GrammarError("it is too complex to compile quickly")
        draw = random.Random(0)
        for _ in range(NUM_TRIALS):
            _follow(matcher, self._num_tokens, draw)
            matcher = self._table.matcher(grammar)


def validate(grammar: Grammar, trial: Trial) -> ValidationResult:
    """Find out whether a grammar can be used, or what of it. May not return at all."""
    try:
        if grammar.kind == "json_schema":
            return _validated_schema(grammar.text, trial)
        if grammar.kind == "lark":
            grammar = Grammar("lark", to_lark(grammar))
        trial.run(grammar)
    except SchemaFault as fault:
        return ValidationResult(error=str(fault), path=fault.path)
    except ValueError as error:  # GrammarError
        return ValidationResult(error=str(error))
    except MemoryError:
        return ValidationResult(error="it takes too much memory to compile")
    return ValidationResult(grammar)


def _validated_schema(text: str, trial: Trial) -> ValidationResult:
    schema = read_schema(text)
    asked = schema.pop(OPTIONS, {})
    is_strict = asked.pop("lenient", False) is not True

    def written(schema: Schema) -> Grammar:
        text = msgspec.json.encode(with_options({**schema, OPTIONS: asked}))
        return Grammar("json_schema", text.decode())

    prepared = enforceable(
        prepare(schema, is_strict=is_strict),
        lambda schema: trial.run(written(schema)),
        is_strict=is_strict,
    )
    not_enforced = tuple(prepared.not_enforced)
    return ValidationResult(written(prepared.schema), not_enforced=not_enforced)


def _seconds(table: GrammarTable) -> float:
    """Measure one unit of work on this machine, as it is now."""
    started_s = time.process_time()
    table.forget()
    table.matcher(YARDSTICK)
    return time.process_time() - started_s


def _follow(matcher: Matcher, num_tokens: int, draw: random.Random) -> None:
    bits = np.empty(-(-num_tokens // 32), dtype=np.int32)
    for _ in range(NUM_TRIAL_TOKENS):
        if matcher.is_finished:
            return
        matcher.mask(bits)
        allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
        if not matcher.accept(int(draw.choice(allowed))):
            raise GrammarError("it is too complex")  # allowed, and yet not to be afforded


if __name__ == "__main__":
    serve("helper", begin)
