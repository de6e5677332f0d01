"""Chaos, seeded: a short run for every change, long ones for releases."""

import os

import pytest

from tests.chaos.run import Plan, chaos_nodes, chaos_server, run
from tests.e2e.ray_nodes import why_no_ray

SHORT_ATTACKS = 6
LONG_SECONDS = float(os.environ.get("CHAOS_SECONDS", "3600"))
NODE_SECONDS = min(LONG_SECONDS, 600.0)


@pytest.mark.e2e
def test_short_run_breaks_no_promise() -> None:
    with chaos_server() as server:
        plan = Plan(seed=1, seconds=LONG_SECONDS, num_attacks=SHORT_ATTACKS, pause_s=1.5)
        report = run(plan, server)
    assert not report.failures, report
    assert report.log.entries, "processes were killed and stopped"
    assert report.verdict.ends["complete"] > 0


@pytest.mark.slow
def test_long_run_breaks_no_promise() -> None:
    with chaos_server() as server:
        report = run(Plan(seed=2, seconds=LONG_SECONDS, supervisor_dies=True), server)
    assert not report.failures, report


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_ray()), reason=why_no_ray())
@pytest.mark.parametrize(("over", "seed"), [("", 5), ("pp", 22)])
def test_partitions_and_lost_nodes_break_no_promise(over: str, seed: int) -> None:
    with chaos_nodes(3, over) as (server, nodes):
        report = run(Plan(seed=seed, seconds=NODE_SECONDS), server, nodes)
    assert not report.failures, report
    assert report.verdict.ends["complete"] > 0


@pytest.mark.slow
def test_thousand_requests_under_kills_lose_and_repeat_no_token() -> None:
    plan = Plan(
        seed=3,
        seconds=1800,
        num_requests=1000,
        attacks=("kill rank",),
        only_when_whole=True,
        impatient=False,
    )
    with chaos_server() as server:
        report = run(plan, server)
    assert not report.failures, report
    assert report.verdict.ends == {"complete": report.verdict.ends["complete"]}, report
    assert report.verdict.ends["complete"] >= 1000


@pytest.mark.slow
def test_ten_thousand_requests_leave_nothing_behind() -> None:
    plan = Plan(seed=4, seconds=7200, num_requests=10_000, num_clients=16, pause_s=1e9)
    with chaos_server() as server:
        report = run(plan, server)
    assert not report.failures, report
