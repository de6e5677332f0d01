"""What is shown of a start, with a clock by hand."""

import io
import json
import logging
import os

import msgspec
import pytest

from backend.wire.control import Budget, Progress
from backend.wire.local.heartbeat import Phase
from gateway.notices.console import Console
from gateway.notices.progress import StartProgress
from gateway.procfs import began_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_phase_is_a_line_where_nobody_watches() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = StartProgress(Console(stream=stream), 98.0, clock)
    for fraction in (0.0, 0.5, 1.0):
        progress.note("rank 0.0", Progress(0, Phase.LOAD, fraction))
    clock.now = 103.0
    progress.note("rank 0.0", Progress(0, Phase.WARM_UP, 0.0))
    clock.now = 104.0
    assert stream.getvalue().splitlines() == [
        "unisono: loading weights ...",
        "unisono: warming up ...",
    ]
    assert progress.status == "warming up 0 %"
    assert progress.took() == "6.0 s (processes 2.0, loading weights 3.0, warming up 1.0)"


def test_long_phase_has_an_estimate_by_the_slowest_rank() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = StartProgress(Console(stream=stream), 98.0, clock)
    progress.note("rank 0.0", Progress(0, Phase.LOAD, 0.0))
    clock.now += 30
    progress.note("rank 0.1", Progress(1, Phase.LOAD, 0.25))
    progress.note("rank 0.0", Progress(0, Phase.LOAD, 0.5))
    clock.now += 10
    progress.note("rank 0.0", Progress(0, Phase.LOAD, 0.75))
    last = stream.getvalue().splitlines()[-1]
    assert last == "unisono: loading weights  rank 0.0  75 %  rank 0.1  25 %  about 120 s left"


def test_terminal_has_one_line_that_is_rewritten() -> None:
    stream, clock = Terminal(), Clock()
    progress = StartProgress(Console(stream=stream), 98.0, clock)
    progress.note("rank 0.0", Progress(0, Phase.LOAD, 0.0))
    clock.now += 2
    progress.note("rank 0.0", Progress(0, Phase.LOAD, 0.5))
    budget = Budget(0, 10**9, 10**8, 2 * 10**9, 10**6, 8 * 10**9)
    progress.note_budget("rank 0.0", budget)
    progress.note_budget("rank 0.1", msgspec.structs.replace(budget, rank=1, free_bytes=7))
    shown = stream.getvalue().split("\r\x1b[K")[-1]
    assert shown == (
        "unisono: loading weights  rank 0.0  50 %  about 2 s left\n"
        "unisono: memory of rank 0.0: weights 1.0 GB, weights in few bits 100.0 MB,"
        " KV cache 2.0 GB, activations 1.0 MB; 8.0 GB are free for it\n"
    )


def test_weights_that_a_rank_expands_are_said_once() -> None:
    stream = io.StringIO()
    progress = StartProgress(Console(stream=stream), 98.0, Clock())
    line = "expanded to bfloat16: self_attn.o_proj (1.0 MB): a cut at 192 is inside a block of 256"
    budget = Budget(0, 10**9, 0, 10**9, 10**6, 8 * 10**9, (line,))
    progress.note_budget("rank 0.0", budget)
    progress.note_budget("rank 0.1", budget)
    assert stream.getvalue().splitlines()[1:] == [f"unisono: weights of rank 0.0 {line}"]


def test_machine_reads_events(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stream = Terminal()
    console = Console(as_events=True, stream=stream)
    StartProgress(console, 0.0).note("rank 0.0", Progress(0, Phase.LOAD, 0.0))
    console.show(["ready", "more"], url="http://x")
    assert [record.getMessage() for record in caplog.records] == ["loading weights ...", "ready"]
    assert json.dumps(caplog.records[1].__dict__["fields"]) == '{"url": "http://x"}'
    assert stream.getvalue() == ""


def test_this_process_began_before_now() -> None:
    clock = StartProgress(Console(), began_s(os.getpid()))
    assert clock.took().startswith("")
    assert began_s(os.getpid()) < clock.clock()
