"""The Grafana dashboard: its figures exist, and a real Prometheus answers all of its queries."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.exposition import ServerFigures
from gateway.telemetry.figures import SupervisorFigures
from tests.e2e.clients import request
from tests.e2e.server import Server, wait_until

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
NAME = re.compile(r"\bunisono_\w+")


def queries() -> list[tuple[str, str]]:
    """(panel, expression) of everything the dashboard asks."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


def served_names() -> set[str]:
    """Every name of a series that /metrics can have."""
    text, _ = ServerFigures({}, [], SupervisorFigures(), ("", "")).text("")
    names = set()
    for family in text_string_to_metric_families(text.decode()):
        match family.type:
            case "counter":
                names.add(f"{family.name}_total")
            case "histogram":
                names |= {f"{family.name}{end}" for end in ("_bucket", "_sum", "_count")}
            case _:
                names.add(family.name)
    return names


def test_every_figure_on_the_dashboard_is_served() -> None:
    asked = {name for _, expression in queries() for name in NAME.findall(expression)}
    assert asked and not asked - served_names()


def test_every_figure_that_alerts_is_served() -> None:
    asked = set(NAME.findall((ROOT / "deploy/alerts.yml").read_text()))
    assert asked and not asked - served_names()
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "rules", ROOT / "deploy/alerts.yml"], check=True)


def test_panels_neither_overlap_nor_leave_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells and max(x for x, _ in cells) < 24
        taken |= cells


@pytest.fixture
def prometheus(tmp_path: Path, tiny_model: Path) -> Iterator[tuple[Server, int]]:
    """A server, and the port of a Prometheus that scrapes it every second."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus here")
    with Server(tiny_model, "--workers", "2") as server:
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: unisono\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]\n"
        )
        port = _free_port()
        command = ["prometheus", f"--config.file={config}"]
        command += [f"--web.listen-address=127.0.0.1:{port}"]
        command += [f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _is_ready(port), 60, "Prometheus is ready")
            yield server, port
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    """Prometheus does not tell which port it got for a 0."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _ask(port: int, expression: str) -> list[Any]:
    text = urllib.parse.urlencode({"query": expression.replace("$__rate_interval", "10s")})
    url = f"http://127.0.0.1:{port}/api/v1/query?{text}"
    with urllib.request.urlopen(url, timeout=10) as response:
        answer = json.load(response)
    assert answer["status"] == "success"
    return list(answer["data"]["result"])


@pytest.mark.slow
@pytest.mark.e2e
def test_prometheus_answers_every_query(prometheus: tuple[Server, int]) -> None:
    server, port = prometheus
    is_over = threading.Event()
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": 20, "ignore_eos": True}

    def load() -> None:
        while not is_over.is_set():
            request(server.url, "POST", "/v1/completions", json.dumps(body).encode())

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        rate = "rate(unisono_generation_tokens_total[10s]) > 0"
        wait_until(lambda: bool(_ask(port, rate)), 60, "Prometheus has seen some load")
        time.sleep(3)  # a few more scrapes, so that every rate has two points
        empty = [(title, query) for title, query in queries() if not _ask(port, query)]
        assert not empty
        [running] = _ask(port, "sum(rate(unisono_engine_generation_tokens_total[10s]))")
        assert float(running["value"][1]) > 0
    finally:
        is_over.set()
        for client in clients:
            client.join()
