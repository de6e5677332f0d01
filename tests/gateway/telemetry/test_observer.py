"""What is counted, published and shown: frames by hand, pages in one process."""

import asyncio
import dataclasses
import os
import time
from collections.abc import Iterator
from typing import cast

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from backend.wire.messages import FinishReason, SeqOutput, StepOutput, StepTimings, Totals
from gateway.app import create_app
from gateway.pool.refusals import PoolNotReady
from gateway.pool.replica_connection import GroupStatus
from gateway.pool.replicas import ReplicaPool
from gateway.pool.status import PoolStatus
from gateway.telemetry import families
from gateway.telemetry import observer as observer_module
from gateway.telemetry.figures import Process, SupervisorFigures
from gateway.telemetry.observer import Observer
from gateway.telemetry.page import Page, create_page
from tests.gateway.fakes import Exchange, FakePool, complete, make_service, settle

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def pages() -> Iterator[list[int]]:
    """The descriptors of a server of two workers."""
    fds = [create_page() for _ in range(3)]
    yield fds
    for fd in fds:
        os.close(fd)


def frame(step: int, *outputs: SeqOutput, num_running: int = 1) -> StepOutput:
    return StepOutput(step, list(outputs), StepTimings(), 1, num_running, 0, 1, Totals(step))


def num_gaps(observer: Observer) -> int:
    found = [h for h in observer.ledger.histograms if h.stem == families.ITL.stem]
    return sum(sum(histogram.buckets) for histogram in found)


def app_of(observer: Observer, pool: FakePool) -> ASGIApp:
    return create_app(dataclasses.replace(make_service(pool), observer=observer))


async def scrape(observer: Observer, pool: FakePool | None = None) -> Samples:
    app = app_of(observer, pool or FakePool())
    exchange = await Exchange(app, "GET", "/metrics").finished()
    assert exchange.status == 200
    assert exchange.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exchange.body.decode())
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_gaps_are_counted_for_each_sequence_that_goes_on() -> None:
    observer = Observer()
    observer.note_frame(0, frame(1, SeqOutput(1, [5]), SeqOutput(2, [5])))
    assert num_gaps(observer) == 0
    observer.note_frame(0, frame(2, SeqOutput(1, [5]), SeqOutput(2, [5]), SeqOutput(3, [5])))
    assert num_gaps(observer) == 2
    observer.note_frame(0, frame(3))  # another worker's step
    last = [SeqOutput(n, [5], FinishReason.STOP) for n in (1, 2, 3)]
    observer.note_frame(0, frame(4, *last))
    assert num_gaps(observer) == 5
    observer.note_frame(0, frame(5, SeqOutput(4, [5])))
    assert num_gaps(observer) == 5


def test_neither_an_abort_nor_a_new_life_of_a_group_makes_a_gap() -> None:
    observer = Observer()
    observer.note_frame(0, frame(7, SeqOutput(1, [5])))
    observer.note_frame(0, frame(0, num_running=0))
    observer.note_frame(0, frame(8, SeqOutput(2, [5])))
    observer.note_frame(0, frame(1, SeqOutput(3, [5])))
    assert num_gaps(observer) == 0


async def test_request_is_counted_when_it_ends() -> None:
    observer, pool = Observer(), FakePool(script=(b"abc", FinishReason.LENGTH))
    app = app_of(observer, pool)
    await complete(app, n=2, max_tokens=3).finished()
    found = await scrape(observer)
    route = "/v1/completions"
    assert value(found, "unisono_http_requests_total", method="POST", route=route, status="200")
    assert value(found, "unisono_request_success_total", finished_reason="length") == 2
    assert value(found, "unisono_prompt_tokens_total") == 2
    assert value(found, "unisono_generation_tokens_total") == 6
    for stem in ("time_to_first_token", "e2e_request_latency", "request_time_per_output_token"):
        assert value(found, f"unisono_{stem}_seconds_count") == 1
        assert value(found, f"unisono_{stem}_seconds_bucket", le="+Inf") == 1


async def test_those_who_left_and_those_who_failed_are_told_apart() -> None:
    observer, pool = Observer(), FakePool()
    app = app_of(observer, pool)
    leaving, failing = complete(app), complete(app)
    await settle()
    leaving.leave()
    pool.send(1, [], FinishReason.ERROR, error="it broke")
    await leaving.finished()
    await failing.finished()
    pool.refusal = PoolNotReady(1.0)
    await complete(app).finished()
    found = await scrape(observer)
    for status in ("499", "500", "503"):
        labels = {"method": "POST", "route": "/v1/completions", "status": status}
        assert value(found, "unisono_http_requests_total", **labels) == 1
    assert value(found, "unisono_request_success_total", finished_reason="abort") == 2
    assert value(found, "unisono_request_success_total", finished_reason="error") == 1


async def test_what_a_client_makes_up_names_no_series() -> None:
    observer = Observer()
    app = app_of(observer, FakePool())
    for number in range(5):
        await Exchange(app, f"BREW{number}", f"/pot-{number}").finished()
    found = await scrape(observer)
    series = [labels for name, labels in found if name == "unisono_http_requests_total"]
    assert len(series) == 1
    assert value(found, "unisono_http_requests_total", **dict(series[0])) == 5


async def test_any_worker_answers_for_all_and_a_successor_goes_on(pages: list[int]) -> None:
    first, second, successor = Observer(), Observer(), Observer()
    first.connect(0, pages)
    second.connect(1, pages)
    first.ledger.add(families.OUTPUT_TOKENS, 10)
    first.ledger.observe(families.TTFT, 0.3)
    first.publish()
    second.ledger.add(families.OUTPUT_TOKENS, 5)
    second.ledger.observe(families.TTFT, 0.3, times=2)
    found = await scrape(second)
    assert value(found, "unisono_generation_tokens_total") == 15
    assert value(found, "unisono_time_to_first_token_seconds_bucket", le="0.3") == 3
    assert value(found, "unisono_time_to_first_token_seconds_bucket", le="0.2") == 0
    second.publish()
    successor.connect(0, pages)
    assert value(await scrape(successor), "unisono_generation_tokens_total") == 15


async def test_figures_are_published_by_themselves(
    pages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer_module, "PUBLISH_SECONDS", 0.01)
    observer = Observer()
    observer.connect(1, pages)
    observer.note_frame(0, frame(1, SeqOutput(1, [5])))
    observer.note_frame(0, frame(2, SeqOutput(1, [5])))
    page = Page(pages[2])
    async with asyncio.timeout(60):
        while (record := page.read()) is None:
            await asyncio.sleep(0.01)
    assert record


async def test_groups_are_shown_with_the_totals_of_their_last_frame() -> None:
    group = GroupStatus(3, True, 2, 1, 25, 100, 0.0)
    pool = FakePool(state=PoolStatus(ready=True, draining=False, stalled=False, groups=[group]))
    observer = Observer()
    observer.watch(cast(ReplicaPool, pool))
    found = await scrape(observer)
    assert value(found, "unisono_kv_cache_usage_perc", group="3") == 0.75
    assert not [name for name, _ in found if name == "unisono_engine_steps_total"]
    observer.note_frame(3, frame(9))
    found = await scrape(observer)
    assert value(found, "unisono_engine_steps_total", group="3") == 9
    assert value(found, "unisono_num_requests_running", group="3") == 2


async def test_group_that_is_down_is_shown_as_such(pages: list[int]) -> None:
    Page(pages[0]).write(msgspec.msgpack.encode(SupervisorFigures(1.0, [], {0: 1, 1: 0}, {})))
    up = GroupStatus(1, True, 0, 0, 100, 100, 0.0)
    pool = FakePool(state=PoolStatus(ready=True, draining=False, stalled=False, groups=[up]))
    observer = Observer()
    observer.watch(cast(ReplicaPool, pool))
    observer.connect(0, pages)
    found = await scrape(observer)
    assert value(found, "unisono_group_ready", group="0") == 0
    assert value(found, "unisono_group_ready", group="1") == 1


async def test_resumptions_are_counted() -> None:
    observer = Observer()
    observer.note_resumption(time.monotonic() - 3)
    found = await scrape(observer)
    assert value(found, "unisono_resumptions_total") == 1
    assert value(found, "unisono_resumption_wait_seconds_sum") >= 3


async def test_processes_are_shown_with_what_they_use(pages: list[int]) -> None:
    rank = Process("rank 0.1", os.getpid(), "0", "1")
    gone = Process("rank 0.2", 2**22 + 1, "0", "2")
    told = SupervisorFigures(1.0, [rank, gone], {0: 4}, {0: 0})
    Page(pages[0]).write(msgspec.msgpack.encode(told))
    observer = Observer()
    observer.connect(0, pages)
    found = await scrape(observer)
    labels = {"process": "rank 0.1", "group": "0", "rank": "1"}
    assert value(found, "unisono_process_resident_memory_bytes", **labels) > 1_000_000
    assert value(found, "unisono_process_cpu_seconds_total", **labels) > 0
    assert value(found, "unisono_group_restarts_total", group="0") == 4
    assert len([name for name, _ in found if name == "unisono_process_cpu_seconds_total"]) == 1


def test_every_family_is_named_once_and_described() -> None:
    stems = [v.stem for v in vars(families).values() if isinstance(v, families.Family)]
    assert len(stems) == len(set(stems))
    for family in vars(families).values():
        if isinstance(family, families.Family):
            assert family.words.endswith(".")
            assert list(family.bounds) == sorted(set(family.bounds))
