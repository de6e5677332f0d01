"""Compiles grammars in a process of its own: `python -m ... DEATH_FD PARENT_PID`.

The kernel kills it when a grammar takes too much time (a CPU timer) or memory (a limit), and when
its parent dies. Does what the lead rank will do, with the same table of tokens, and some steps of
an output besides: a grammar may compile and be too costly to follow. Knows nothing of requests.
Started by vetter.py, which draws the frames.
"""

import os
import random
import resource
import signal
import sys
import time
from typing import BinaryIO

import msgspec
import numpy as np
from setproctitle import setproctitle

from backend.grammar import GrammarError, GrammarTable, Matcher, to_lark
from backend.wire.lifeline import ignore_terminal_signals, tie_to_parent
from backend.wire.sampling import Grammar
from gateway.vetter import CPU_LIMIT_S, FRAME_HEADER, Verdict, Words

# A lead that compiles what was vetted stops every stream of its group for so long. The usual is
# 2 ms; an enum of 5,000 texts took 11.
MAX_COMPILE_S = 0.1
# Beyond what the vocabulary took.
MEMORY_LIMIT_BYTES = 256 * 2**20
# Outputs tried, and tokens of each. Costly grammars showed it within a handful of tokens, on one
# way of two: 1,500 optional properties are too many after `{"`, and unnoticed after `{}`.
NUM_TRIALS = 4
NUM_TRIAL_TOKENS = 16


def main(death_fd: int, parent_pid: int) -> None:
    """Serve until the parent closes its end."""
    ignore_terminal_signals()
    tie_to_parent(death_fd, parent_pid)
    setproctitle("unisono: helper")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything here prints must not look like a reply
    # Our own mistakes are for the log; what native code prints when it dies of a grammar is not.
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    requests = sys.stdin.buffer
    words = msgspec.msgpack.decode(_receive(requests), type=Words)
    # Nothing is kept: the next grammar must not pay for the memory of this one.
    table = GrammarTable(words.pieces, words.eos_token_ids, max_compiled=1)
    _limit_memory()
    _send(replies, Verdict())
    while payload := _receive(requests):
        grammar = msgspec.msgpack.decode(payload, type=Grammar)
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        verdict = vet(grammar, table, len(words.pieces))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(replies, verdict)


def vet(grammar: Grammar, table: GrammarTable, num_tokens: int) -> Verdict:
    """Compile a grammar and follow it for some tokens. May not return at all."""
    try:
        if grammar.kind == "lark":
            grammar = Grammar("lark", to_lark(grammar))
        started_s = time.process_time()
        matcher = table.matcher(grammar)
        if time.process_time() - started_s > MAX_COMPILE_S:
            return Verdict(error="it is too complex to compile quickly")
        draw = random.Random(0)
        for _ in range(NUM_TRIALS):
            _follow(matcher, num_tokens, draw)
            matcher = table.matcher(grammar)
    except GrammarError as error:
        return Verdict(error=str(error))
    except MemoryError:
        return Verdict(error="it takes too much memory to compile")
    return Verdict(grammar)


def _follow(matcher: Matcher, num_tokens: int, draw: random.Random) -> None:
    bits = np.empty(-(-num_tokens // 32), dtype=np.int32)
    for _ in range(NUM_TRIAL_TOKENS):
        if matcher.is_finished:
            return
        matcher.mask(bits)
        allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
        if not matcher.accept(int(draw.choice(allowed))):
            raise GrammarError("it is too complex")  # allowed, and yet not to be afforded


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        data_bytes = int(file.read().split()[5]) * resource.getpagesize()
    limit = data_bytes + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _receive(source: BinaryIO) -> bytes:
    """Return the next payload, or nothing at the end."""
    header = source.read(FRAME_HEADER.size)
    if len(header) < FRAME_HEADER.size:
        return b""
    (length,) = FRAME_HEADER.unpack(header)
    return source.read(length)


def _send(target: BinaryIO, verdict: Verdict) -> None:
    payload = msgspec.msgpack.encode(verdict)
    target.write(FRAME_HEADER.pack(len(payload)) + payload)
    target.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
