"""The benchmark counts what was sent, whatever way a server frames it, and fails when it must."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from gateway.bench.bench_settings import BenchSettings
from gateway.bench.client import Answer, fetch_json, stream_completion
from gateway.bench.load import LevelResult, figures, median_of, percentile, run_level, run_rounds
from gateway.bench.report import Report
from gateway.bench.streamed_request import BenchError, Target, request_bytes
from gateway.bench.workload import Workload, calibrate
from gateway.commands import bench
from tests.gateway.bench.factories import level, report
from tests.gateway.bench.fake_server import (
    FakeServer,
    Split,
    against,
    answer,
    chunk,
    event,
    every,
    text_event,
)


def stream_from(server: FakeServer, max_tokens: int = 5) -> Answer:
    workload = Workload("fake", prompt_tokens=4)
    return against(
        server, lambda target: stream_completion(target, workload.request(max_tokens), 30)
    )


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("split", [every(1), every(7), every(10**6)])
def test_stream_is_counted_alike_in_every_framing(
    is_chunked: bool, newline: bytes, split: Split
) -> None:
    got = stream_from(FakeServer(is_chunked=is_chunked, newline=newline, split=split))
    assert got.error == ""
    assert len(got.text_times_s) == 5
    assert (got.num_prompt_tokens, got.num_output_tokens) == (5, 5)
    assert got.finish_reason == "length"
    assert got.started_s <= got.text_times_s[0] <= got.text_times_s[-1]


def test_events_of_several_tokens_are_not_taken_for_tokens() -> None:
    got = stream_from(FakeServer(tokens_per_event=3), max_tokens=7)
    assert (got.num_output_tokens, len(got.text_times_s)) == (7, 3)


def test_chunk_that_comes_in_pieces_is_put_together() -> None:
    whole = chunk(text_event("a") + b"data: [DONE]\n\n")
    head = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in head + whole:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    server = FakeServer()
    server.serve = serve  # type: ignore[method-assign]
    assert len(stream_from(server).text_times_s) == 1


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNKED_HEAD = STREAM_HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (answer(b'{"error": {"message": "n is 3"}}', "400 Bad Request"), "HTTP 400: n is 3"),
        (answer(b'{"detail": "no auth"}', "401 No"), "HTTP 401: no auth"),
        (answer(b"oops", "502 Bad Gateway"), "HTTP 502: oops"),
        (answer(b"{}"), "the answer is not a stream of events"),
        (b"", "the server closed the connection early"),
        (b"SSH-2.0-x\r\n\r\n\r\n", "no HTTP/1.1 answer but 'SSH-2.0-x'"),
        (STREAM_HEAD + text_event("a"), "the server closed the connection early"),
        (STREAM_HEAD + text_event("a") + event({"error": {"message": "died"}}), "stream: died"),
        (STREAM_HEAD + b"data: {]\n\ndata: [DONE]\n\n", "unreadable event"),
        (STREAM_HEAD + b"data: [DONE]\n\n", "no token came"),
        (CHUNKED_HEAD + chunk(text_event("a")) + b"0\r\n\r\n", "ended without [DONE]"),
        (CHUNKED_HEAD + b"zz\r\n", "invalid literal"),
    ],
)
def test_failed_stream_says_what_was_wrong(sent: bytes, error: str) -> None:
    server = FakeServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.write_eof()
        await reader.read()

    server.serve = serve  # type: ignore[method-assign]
    assert error in stream_from(server).error


def test_stream_that_never_ends_is_given_up() -> None:
    server = FakeServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        await reader.read()

    server.serve = serve  # type: ignore[method-assign]
    got = against(server, lambda target: stream_completion(target, {}, 0.01))
    assert got.error == "not done within 0.01 s"


def test_level_counts_requests_tokens_and_keeps_its_concurrency() -> None:
    server = FakeServer(tokens_per_event=2, split=every(100))
    workload = Workload("fake", prompt_tokens=8, max_tokens=10)
    result = against(server, lambda target: run_level(target, workload, 3))
    assert (result.num_requests, result.num_errors, result.num_short) == (6, 0, 0)
    assert (result.output_tokens, result.prompt_tokens_per_request) == (60.0, 9.0)
    assert result.events_per_token == 0.5
    assert server.max_open == 3
    assert result.output_tokens_per_s == pytest.approx(60 / result.wall_s)
    assert result.requests_per_s == pytest.approx(6 / result.wall_s)
    assert 0 < result.ttft_p50_ms <= result.ttft_p99_ms <= result.wall_s * 1e3


def test_single_stream_still_makes_four_requests() -> None:
    workload = Workload("fake", max_tokens=1)
    assert against(FakeServer(), lambda target: run_level(target, workload, 1)).num_requests == 4


def test_failed_requests_are_counted_and_named_and_add_no_tokens() -> None:
    server = FakeServer(fail=answer(b'{"error": "full"}', "429 Too Many Requests"))
    result = against(server, lambda target: run_level(target, Workload("fake"), 2))
    assert (result.num_errors, result.first_error) == (4, "HTTP 429: full")
    assert result.output_tokens == 0
    assert math.isnan(result.ttft_p50_ms)


def test_figures_are_those_of_known_times() -> None:
    answers = [
        Answer(10.0, [10.1, 10.2, 10.4], 8, 4, max_tokens=4, ended_s=10.4),
        Answer(10.0, [10.3, 10.4], 10, 2, max_tokens=4, ended_s=10.4),
        Answer(10.0, [10.9], error="died", ended_s=11.0),
    ]
    result = figures(answers, 3, wall_s=2.0, cpu_s=0.5)
    assert (result.ttft_p50_ms, result.ttft_p99_ms) == pytest.approx((200, 298))
    assert (result.itl_p50_ms, result.itl_p99_ms) == pytest.approx((100, 198))
    assert (result.output_tokens_per_s, result.requests_per_s) == (3.0, 1.0)
    assert result.events_per_token == pytest.approx(5 / 6)
    assert (result.num_errors, result.num_short) == (1, 1)
    assert (result.prompt_tokens_per_request, result.client_cpu_percent) == (9.0, 25.0)
    assert (result.latency_p50_ms, result.max_in_flight) == pytest.approx((400, 3))
    assert math.isnan(result.good_share)


def test_server_without_usage_is_counted_by_events() -> None:
    server = FakeServer(sends_usage=False)
    result = against(server, lambda target: run_level(target, Workload("fake", max_tokens=6), 1))
    assert result.output_tokens == 24
    assert math.isnan(result.prompt_tokens_per_request)


def test_percentile_interpolates_and_knows_nothing_of_nothing() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([0, 10], 99) == pytest.approx(9.9)
    assert math.isnan(percentile([], 50))


def test_prompts_have_the_length_that_the_server_counts() -> None:
    server = FakeServer()
    workload = Workload("fake", prompt_tokens=12)
    against(server, lambda target: calibrate(target, workload))
    prompts = [workload.request(1)["prompt"] for _ in range(20)]
    assert {len(prompt.split()) + 1 for prompt in prompts} == {12}
    assert len(set(prompts)) == 20


def test_prompts_of_ids_have_their_length_at_once() -> None:
    prompt = Workload("fake", prompt_tokens=12, prompt_ids=True).request(1)["prompt"]
    assert len(prompt) == 12
    assert all(100 <= token_id < 256 for token_id in prompt)


def test_request_asks_for_the_whole_length_with_extra_fields() -> None:
    body = Workload("fake", extra={"top_p": 0.9, "temperature": 1}).request(7)
    assert (body["max_tokens"], body["ignore_eos"], body["stream"]) == (7, True, True)
    assert (body["top_p"], body["temperature"]) == (0.9, 1)
    assert "ignore_eos" not in Workload("fake", ignore_eos=False).request(7)


def test_shorter_requests_ask_for_no_more_than_their_own_length() -> None:
    """Calibration asked for 1 token and for 256 at least, and every server refused."""
    workload = Workload("fake", max_tokens=256, extra={"min_tokens": 256, "top_k": 20})
    server = FakeServer()

    async def begin(target: Target) -> None:
        await calibrate(target, workload)
        await run_rounds(target, workload, [1], 1, num_requests=1)

    against(server, begin)
    lengths = {(body["min_tokens"], body["max_tokens"]) for body in server.bodies}
    assert lengths == {(1, 1), (8, 8), (256, 256)}
    assert {body["top_k"] for body in server.bodies} == {20}


@pytest.mark.parametrize(
    ("extra", "asked"),
    [
        ({"min_tokens": 200}, {"max_tokens": 1, "min_tokens": 0}),
        ({"min_tokens": 257}, {"max_tokens": 1, "min_tokens": 2}),  # refused, as the load would be
        ({"min_tokens": None, "max_tokens": 99}, {"max_tokens": 1, "min_tokens": None}),
    ],
)
def test_shorter_requests_stand_to_the_load_as_their_lengths_do(
    extra: dict[str, Any], asked: dict[str, Any]
) -> None:
    workload = Workload("fake", max_tokens=256, extra=extra)
    assert workload.request(1).items() >= asked.items()
    assert workload.request(256).items() >= extra.items()


def test_refused_first_request_ends_in_the_servers_words() -> None:
    server = FakeServer(fail=answer(b'{"error": {"message": "no model x"}}', "404 Not Found"))
    with pytest.raises(BenchError, match="HTTP 404: no model x"):
        against(server, lambda target: calibrate(target, Workload("x")))


def test_levels_are_interleaved_and_warmed_up_once() -> None:
    order: list[tuple[int, int]] = []

    def note(round_: int, result: LevelResult) -> None:
        order.append((round_, result.concurrency))

    server = FakeServer()
    workload = Workload("fake", max_tokens=20)
    results = against(server, lambda target: run_rounds(target, workload, [1, 2], 2, report=note))
    assert order == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert [len(rounds) for rounds in results.values()] == [2, 2]
    warm_ups = [body["max_tokens"] for body in server.bodies if body["max_tokens"] != 20]
    assert warm_ups == [8] * 3


def test_rounds_are_combined_by_medians_and_failures_by_sums() -> None:
    rounds = [level(itl_p50_ms=float(ms), num_errors=ms, first_error="x") for ms in (1, 2, 9)]
    combined = median_of(rounds)
    assert (combined.itl_p50_ms, combined.num_errors, combined.first_error) == (2.0, 12, "x")
    assert combined.concurrency == 4


def test_round_without_figures_leaves_those_of_others() -> None:
    """One in which every request failed has NaN, which the median of three could become."""
    median = median_of([level(ttft_p50_ms=ms) for ms in (300.0, math.nan, 100.0)])
    assert median.ttft_p50_ms == 200.0
    assert math.isnan(median_of([level(ttft_p50_ms=math.nan)] * 2).ttft_p50_ms)


@pytest.mark.parametrize(("limit", "num_short"), [(10**6, 0), (3, 4)])
def test_command_measures_every_level_with_the_first_model(
    limit: int, num_short: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeServer(limit=limit)
    flags = {"concurrency": "1,2", "rounds": "1", "max_tokens": "9", "prompt_tokens": "6"}

    async def use(target: Target) -> Report:
        return await bench.measure(bench.load(flags | {"url": f"http://{target}/v1"}))

    measured = against(server, use)
    assert measured.settings.model == "fake"
    medians = [level.median for level in measured.levels]
    assert [result.concurrency for result in medians] == [1, 2]
    assert all(result.prompt_tokens_per_request == 6 for result in medians)
    assert [result.num_short for result in medians] == [num_short, num_short]
    assert "round 1, 2 streams" in capsys.readouterr().err


def test_run_that_is_cut_short_tells_the_rounds_that_were_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C, which asyncio makes a cancellation of, printed nothing of an hour's rounds."""
    flags = {"concurrency": "1,2", "rounds": "2", "max_tokens": "9", "prompt_tokens": "6"}

    async def use(target: Target) -> Report:
        task = asyncio.ensure_future(bench.measure(bench.load(flags | {"url": f"http://{target}"})))

        def cancel(bars: object, round_: int, result: LevelResult) -> None:
            if round_ == 1:
                task.cancel()

        monkeypatch.setattr(bench, "_progress", cancel)
        return await task

    measured = against(FakeServer(), use)
    assert measured.is_cut_short
    assert [(each.name, len(each.rounds)) for each in measured.levels] == [("1", 2), ("2", 1)]
    assert measured.notes == ["cut short: 3 of 4 levels were measured"]


def test_command_without_a_server_says_so_with_status_1() -> None:
    with pytest.raises(
        SystemExit, match=r"unisono: no server answers at 127\.0\.0\.1:1: "
    ) as raised:
        bench.run({"url": "http://127.0.0.1:1"})
    assert raised.value.code != 0


def test_command_writes_the_file_and_exits_with_1_on_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(settings: BenchSettings, trace: None) -> Report:
        return report([level(num_errors=num_errors)])

    monkeypatch.setattr(bench, "measure", measure)
    path = tmp_path / "figures.json"
    num_errors = 0
    assert bench.run({"json": str(path)}) == 0
    num_errors = 1
    assert bench.run({}) == 1
    assert json.loads(path.read_bytes())["levels"][0]["median"]["num_errors"] == 0
    assert capsys.readouterr().out.count("tokens/s") == 2


def test_server_that_names_no_model_needs_one_named() -> None:
    async def fetch(target: Target, path: str) -> Any:
        return {"data": []}

    with pytest.MonkeyPatch.context() as patch, pytest.raises(BenchError, match="--model"):
        patch.setattr(bench, "fetch_json", fetch)
        asyncio.run(bench.measure(BenchSettings()))


def test_document_of_a_wrong_path_is_refused_with_the_status() -> None:
    with pytest.raises(BenchError, match="/v2 answered HTTP 404: no such path"):
        against(FakeServer(), lambda target: fetch_json(target, "/v2"))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8000", Target("127.0.0.1", 8000)),
        ("localhost:9000", Target("localhost", 9000)),
        ("http://host/v1/", Target("host", 80)),
        ("https://host/llm/v1", Target("host", 443, "/llm", is_tls=True)),
        ("http://[::1]:8000", Target("::1", 8000)),
    ],
)
def test_urls_are_read_as_people_write_them(url: str, target: Target) -> None:
    assert Target.parse(url) == target


def test_key_is_sent_and_not_shown() -> None:
    target = Target.parse("http://host", "sk-secret")
    assert b"\r\nAuthorization: Bearer sk-secret\r\n" in request_bytes(target, "GET", "/")
    assert b"Authorization" not in request_bytes(Target.parse("http://host"), "GET", "/")
    assert "secret" not in repr(target)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "/path"])
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(BenchError, match="is not"):
        Target.parse(url)
