"""The measurement of the gateway: its arithmetic, and one short run with real processes."""

from pathlib import Path

import msgspec
import pytest

from gateway.bench.dialects import DIALECTS
from gateway.bench.gateway import GatewayFigures
from gateway.bench.streams import EventTimes, lateness_ms
from gateway.cli import main
from tests.e2e.steady import steadily


def test_event_is_late_since_the_last_step_before_it() -> None:
    assert lateness_ms([1.5, 2.25, 2.5, 4.0], [1.0, 2.0, 3.0]) == [500.0, 250.0, 500.0, 1000.0]


SSE_EVENTS = b'data: {"a":{}}\n\n: ping\n\ndata: {"b":"}"}\n\n'


@pytest.mark.parametrize(
    ("dialect", "stream", "num_events"),
    [
        ("completions", SSE_EVENTS + b"data: [DONE]\n\n", 2),
        ("messages", SSE_EVENTS + b'data: {"type":"message_stop"}\n\n', 3),
        ("responses", SSE_EVENTS + b'event: response.incomplete\ndata: {"c":{"d":2}}\n\n', 3),
        ("ollama", b'{"done":false,"b":"}\\n"}\n{"a":1,"done":true,"c":{"d":2}}\n', 2),
        ("takeoff", b'data: {"a"\n\ndata: b\n\nevent: metadata\ndata: {"c":1}\n\n', 3),
    ],
)
def test_events_are_counted_however_they_are_cut(
    dialect: str, stream: bytes, num_events: int
) -> None:
    for size in range(1, len(stream) + 1):
        times = EventTimes(DIALECTS[dialect].form)
        ends = [times.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert len(times.times_s) == num_events
        assert ends == [False] * (len(ends) - 1) + [True]


def test_bodies_say_their_length_in_the_words_of_the_dialect() -> None:
    bodies = {
        name: msgspec.json.decode(dialect.body("m", max_tokens=7, stream=True))
        for name, dialect in DIALECTS.items()
    }
    assert bodies["completions"]["max_tokens"] == 7
    assert bodies["responses"]["max_output_tokens"] == 7
    assert bodies["ollama"]["options"] == {"num_predict": 7}
    assert bodies["takeoff"]["max_new_tokens"] == 7


# The others differ in the body, which is looked at above, and in how their events begin.
SHORT = ("chat", "messages")


@pytest.mark.e2e
@pytest.mark.parametrize(
    "dialect",
    [pytest.param(name, marks=[] if name in SHORT else pytest.mark.slow) for name in DIALECTS],
)
def test_bench_gateway_measures_a_worker_without_a_model(tmp_path: Path, dialect: str) -> None:
    file = tmp_path / "figures.json"
    load = ["--streams", "4", "--rate", "50", "--seconds", "0.5", "--rounds", "1"]
    load += ["--dialect", dialect]

    def measured() -> GatewayFigures:
        assert main(["bench", "gateway", *load, "--json", str(file)]) == 0
        figures = msgspec.json.decode(file.read_bytes(), type=GatewayFigures)
        assert 100 < figures.tokens_per_s < 300
        return figures

    # In half a second a pause of a tenth counts.
    figures = steadily(measured, slack_s=0.1)
    assert figures.requests_per_s > 0 and figures.bare_requests_per_s > 0
    assert 0 < figures.free_events_per_token <= 1.02
