"""Nodes of a Ray cluster that cannot serve: each is refused in words that say what to do."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.clients import metrics
from tests.e2e.control import ctl
from tests.e2e.ray_nodes import RAY_PORT, RayNode, ray_cluster, ray_server, why_no_ray
from tests.e2e.server import wait_until
from tests.e2e.test_ray_nodes import PLACING_SECONDS, SETTINGS, groups_of, refused_on

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_ray()), reason=why_no_ray()),
]

ROOT = Path(__file__).parents[2]
NODE_PORT = 7001
# Shows one folder in the place of another to what follows it on a command line.
COVERED = ["sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"']
CALL = """
import sys
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.handshake import Hello
secret = sys.argv[1].encode()
try:
    dial(LeadAddress("10.77.0.1", int(sys.argv[2]), secret), Hello(0, 0, 1, 0))
except DialError as error:
    print(error)
"""
WRONG = "let me in please, I am an agent."


def other_code(folder: Path) -> Path:
    """Copy the engine's code with one more line in a module; return where the copy is."""
    shutil.copytree(ROOT / "backend", folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    module = folder / "wire" / "messages.py"
    module.write_text(module.read_text() + "\n# Of another day.\n")
    return folder


def test_node_with_other_code_or_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    shutil.copytree(tiny_model, other)
    with (other / "config.json").open("a") as config:
        config.write("\n")
    flags = ("--ray-address", f"10.77.0.1:{RAY_PORT}", "--threads", "1")
    with ray_cluster(2, num_cpus=0) as nodes:  # the head gets no group
        node = nodes[1]

        def refused(seen: Path, in_the_place_of: Path) -> str:
            node.kill_ray()
            node.stop()
            node.within = [*COVERED, str(seen), str(in_the_place_of)]
            node.start(1)
            node.wait()
            return refused_on(nodes[0], tiny_model, *flags)

        words = refused(other_code(tmp_path / "code"), ROOT / "backend")
        assert " runs 0.1.0+" in words and "the supervisor 0.1.0+" in words
        assert "install the same version of Unisono on every node" in words
        words = refused(empty, tiny_model.parent)
        assert "(10.77.0.2) has no " in words and str(tiny_model) in words
        assert "at the same path on every node" in words
        words = refused(other, tiny_model)
        assert f"(10.77.0.2) has other files at {tiny_model} than the supervisor" in words
        assert "copy the same model to every node" in words


def call_with_wrong_secret(node: RayNode) -> str:
    command = [*node.machine.within, sys.executable, "-c", CALL, WRONG, str(NODE_PORT)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_strangers_are_counted_and_a_late_node_is_used(tiny_model: Path, tmp_path: Path) -> None:
    socket = tmp_path / "ctl.sock"
    flags = (*SETTINGS, "--control-socket", socket, "--node-port", NODE_PORT)
    with ray_cluster(2, num_cpus=1) as nodes:
        late = nodes[1]
        late.kill_ray()
        late.stop()
        with ray_server(nodes, tiny_model, *map(str, flags)) as server:
            for count in (1, 2):
                assert "the secret is wrong" in call_with_wrong_secret(late)
                told = f"the secret is wrong; {count} so far"
                wait_until(lambda told=told: told in server.stderr, 60, "it is logged")  # type: ignore[misc]
            assert "agent at 10.77.0.2" in server.stderr and WRONG not in server.stderr
            series = 'unisono_group_connections_refused_total{group="",reason="secret"}'
            wait_until(lambda: metrics(server.url).get(series) == 2, 60, "it is counted")
            added: list[tuple[int, str]] = []
            adding = threading.Thread(
                target=lambda: added.append(ctl(socket, "add", "--node", late.machine.address))
            )
            adding.start()
            # Until Ray knows that it is gone, it is one without room.
            wait_until(
                lambda: any("node 10.77.0.2" in group.waits_for for group in groups_of(socket)),
                PLACING_SECONDS,
                "it says what it waits for",
            )
            late.start(1)
            adding.join(PLACING_SECONDS)
            assert added and added[0][0] == 0, added
            assert ["10.77.0.2" in group.node for group in groups_of(socket)] == [False, True]
            assert ctl(socket, "remove", "1")[0] == 0
            assert ["10.77.0.2" in group.node for group in groups_of(socket)] == [False]
            wait_until(lambda: not late.pids_of("unisono: "), 60, "the node's part ends")
