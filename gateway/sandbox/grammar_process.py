"""Compiles grammars in a process of its own.

The kernel kills it when a grammar takes too much time (a CPU timer) or memory (a limit). Does what
the lead rank will do, with the same table of tokens, and some steps of an output besides: a grammar
may compile and be too costly to follow. Knows nothing of requests. The greeting is a
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

from backend.structured_output.grammar import GrammarError, GrammarTable, Matcher, to_lark
from backend.wire.sampling import Grammar
from gateway.sandbox.grammar_validator import CPU_LIMIT_S, GrammarVocabulary, ValidationResult
from gateway.sandbox.helper_process import cpu_limit, limit_memory, serve

# A lead that compiles a valid grammar stops every stream of its group for so long. The usual is
# 2 ms; an enum of 5,000 texts took 11.
MAX_COMPILE_S = 0.1
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

    def answer(request: bytes) -> bytes:
        with cpu_limit(CPU_LIMIT_S):
            grammar = msgspec.msgpack.decode(request, type=Grammar)
            return msgspec.msgpack.encode(validate(grammar, table, len(vocabulary.pieces)))

    return answer


def validate(grammar: Grammar, table: GrammarTable, num_tokens: int) -> ValidationResult:
    """Compile a grammar and follow it for some tokens. May not return at all."""
    try:
        if grammar.kind == "lark":
            grammar = msgspec.structs.replace(grammar, text=to_lark(grammar), body=None)
        started_s = time.process_time()
        matcher = table.matcher(grammar)
        if time.process_time() - started_s > MAX_COMPILE_S:
            return ValidationResult(error="it is too complex to compile quickly")
        draw = random.Random(0)
        for _ in range(NUM_TRIALS):
            _follow(matcher, num_tokens, draw)
            matcher = table.matcher(grammar)
    except GrammarError as error:
        return ValidationResult(error=str(error))
    except MemoryError:
        return ValidationResult(error="it takes too much memory to compile")
    return ValidationResult(grammar)


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
