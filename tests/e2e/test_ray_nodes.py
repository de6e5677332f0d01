"""Groups on the nodes of a Ray cluster, which are network namespaces of this machine.

Whatever becomes of a node, its requests go on elsewhere, and every text is that of a server with
all groups on one machine.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.supervision.control_messages import GroupView
from tests.e2e.clients import metrics
from tests.e2e.control import ctl, listing
from tests.e2e.crowd import ask_all, requests_of, slow
from tests.e2e.ray_nodes import RAY_PORT, RayNode, ray_cluster, ray_server, start_all, why_no_ray
from tests.e2e.server import Server, clean_environment, serve_command, tied, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_no_ray()), reason=why_no_ray())]

SETTINGS = ("--exact", "--threads", "1", "--kv-cache-bytes", "8000000")


Act = Callable[[RayNode], None]

# What is promised for anything that vanishes.
DETECTION_SECONDS = 11.0
# Ray starts half a dozen processes on a node, and two cores may have others to run.
PLACING_SECONDS = 600.0


def groups_of(socket: Path) -> list[GroupView]:
    return listing(socket).groups


def test_two_nodes_answer_as_one_machine_and_outlive_a_raylet(
    tiny_model: Path, tiny_exact_server: Server, tmp_path: Path
) -> None:
    requests = requests_of(6, 200)
    expected = ask_all(tiny_exact_server.url, requests)
    socket = tmp_path / "ctl.sock"
    flags = (*SETTINGS, "--dp", "2", "--control-socket", socket, "--test-faults", slow(requests))
    with ray_cluster(2, num_cpus=1) as nodes, ray_server(nodes, tiny_model, *flags) as server:
        groups = groups_of(socket)
        assert {group.node.partition("(")[2] for group in groups} == {"10.77.0.1)", "10.77.0.2)"}
        assert ask_all(server.url, requests) == expected
        assert ask_all(server.url, requests, disturb=nodes[1].kill_raylet) == expected
        # What runs may be answered before the loss is known: it is found by silence.
        wait_until(
            lambda: any(group.last_fault is not None for group in groups_of(socket)),
            120,
            "the loss is known",
        )
        [lost] = [group for group in groups_of(socket) if group.last_fault is not None]
        assert lost.last_fault is not None and "10.77.0.2" in lost.last_fault.summary
        nodes[1].stop()
        nodes[1].start(1)
        wait_until(
            lambda: all(group.state == "ready" for group in groups_of(socket)),
            PLACING_SECONDS,
            "the group is placed again",
        )
        assert ask_all(server.url, requests) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["--tp", "--pp"])
def test_group_over_two_nodes_answers_and_dies_as_one(
    tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    requests = requests_of(6, 400)
    with Server(tiny_model, "--exact", kind, "2") as here:
        expected = ask_all(here.url, requests)
    socket = tmp_path / "ctl.sock"
    group_flags = (kind, "2", "--nodes", "2", "--restart-limit", "20")
    flags = (*SETTINGS, *group_flags, "--control-socket", socket, "--test-faults", slow(requests))
    with ray_cluster(2, num_cpus=1) as nodes, ray_server(nodes, tiny_model, *flags) as server:
        [group] = groups_of(socket)
        assert "10.77.0.1" in group.node and "10.77.0.2" in group.node
        assert len(group.ranks) == 2
        assert ask_all(server.url, requests) == expected
        other, head = nodes[1], nodes[0]
        # The head keeps its link: it has the server, too. Either node may have the lead.
        harms = ((kill_agent, other), (kill_agent, head), (kill_actor, other), (cut, other))
        for harm, node in harms:
            what = f"{harm.__name__} on {node.machine.address} of {groups_of(socket)[0].node}"
            took_s: list[float] = []
            num_resumed = metrics(server.url)["unisono_resumptions_total"]
            disturb = partial(harm_and_heal, node, harm, socket, took_s)
            # There is no other group: its requests wait until it is placed again.
            assert ask_all(server.url, requests, disturb) == expected, what
            assert 0 < took_s[0] < DETECTION_SECONDS, what
            resumed = metrics(server.url)["unisono_resumptions_total"]
            assert resumed > num_resumed, f"{what}: nothing was in its middle"


def harm_and_heal(node: RayNode, harm: Act, socket: Path, took_s: list[float]) -> None:
    """Do harm to a node, note after how long a fault was told, and give the node back."""
    harmed_s = time.time()

    def told() -> list[float]:
        faults = [group.last_fault for group in groups_of(socket)]
        return [fault.at - harmed_s for fault in faults if fault and fault.at > harmed_s]

    harm(node)
    wait_until(lambda: bool(told()), 120, "the loss is known")
    took_s += told()
    mend(node)
    if not node.is_up:
        node.start_anew()


def kill_actor(node: RayNode) -> None:
    kill(node, "ray::NodePart")


def kill_agent(node: RayNode) -> None:
    kill(node, "unisono: node agent")


def kill(node: RayNode, part: str) -> None:
    pids = node.pids_of(part)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def freeze(node: RayNode) -> None:
    node.machine.send(signal.SIGSTOP)


def thaw(node: RayNode) -> None:
    node.machine.send(signal.SIGCONT)


def cut(node: RayNode) -> None:
    node.machine.cut()


def mend(node: RayNode) -> None:
    node.machine.mend()


def restart_ray(node: RayNode) -> None:
    """As a service manager does, once Ray there has noticed that it was given up."""
    node.stop()
    node.start(1)


@pytest.mark.slow
def test_three_nodes_outlive_whatever_befalls_one(
    tiny_model: Path, tiny_exact_server: Server, tmp_path: Path
) -> None:
    requests = requests_of(6, 400)
    expected = ask_all(tiny_exact_server.url, requests)
    socket = tmp_path / "ctl.sock"
    limits = ("--restart-limit", "20", "--test-faults", slow(requests))
    flags = (*SETTINGS, "--dp", "3", "--control-socket", socket, *limits)
    faults: dict[str, tuple[Act, list[Act]]] = {
        "the actor is killed": (kill_actor, []),
        "the node is frozen": (freeze, [thaw, restart_ray]),
        "the link is cut": (cut, [mend, restart_ray]),
    }
    with ray_cluster(3, num_cpus=1) as nodes, ray_server(nodes, tiny_model, *flags) as server:
        victim = nodes[2]

        def is_whole() -> bool:
            return all(group.state == "ready" for group in groups_of(socket))

        for what, (harm, heal) in faults.items():
            harmed: list[float] = []

            def disturb(harm: Act = harm, harmed: list[float] = harmed) -> None:
                harmed.append(time.time())
                harm(victim)

            assert ask_all(server.url, requests, disturb) == expected, what
            faults_at = [group.last_fault.at for group in groups_of(socket) if group.last_fault]
            assert 0 < max(faults_at) - harmed[0] < DETECTION_SECONDS, what
            for act in heal:
                act(victim)
            wait_until(is_whole, PLACING_SECONDS, f"the group is placed again after {what}")
        assert ask_all(server.url, requests, nodes[0].kill_ray) == expected, "without a head"
        for node in nodes:  # without a store of its own, a head that is new knows no old node
            node.kill_ray()
            node.stop()
        start_all(nodes, 1)
        wait_until(is_whole, 180, "all is placed in the new cluster")
        assert ask_all(server.url, requests) == expected


def refused_on(node: RayNode, model: Path, *flags: str) -> str:
    """Have a server not start; return its words."""
    command = [*node.machine.within, *serve_command(model, "--launcher", "ray", *flags)]
    run = subprocess.run(
        tied([shutil.which(command[0]) or "", *command[1:]]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
    )
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    return run.stderr


@pytest.mark.slow
def test_frozen_raylet_harms_no_request(
    tiny_model: Path, tiny_exact_server: Server, tmp_path: Path
) -> None:
    """Its cluster gives the node up, though what runs there may run on until Ray says so."""
    requests = requests_of(6, 1000)
    expected = ask_all(tiny_exact_server.url, requests)
    socket = tmp_path / "ctl.sock"
    flags = (*SETTINGS, "--dp", "2", "--control-socket", socket, "--test-faults", slow(requests))
    with ray_cluster(2, num_cpus=1) as nodes, ray_server(nodes, tiny_model, *flags) as server:
        [raylet] = nodes[1].pids_of("raylet/raylet")
        disturb = partial(os.kill, raylet, signal.SIGSTOP)
        assert ask_all(server.url, requests, disturb) == expected
        wait_until(
            lambda: any(group.state != "ready" for group in groups_of(socket)),
            PLACING_SECONDS,
            "Ray has given the node up",
        )
        assert ask_all(server.url, requests) == expected, "one group is left"
        nodes[1].start_anew()
        wait_until(
            lambda: all(group.state == "ready" for group in groups_of(socket)),
            PLACING_SECONDS,
            "the group is placed again",
        )
        assert ask_all(server.url, requests) == expected


@pytest.mark.slow
def test_nodes_are_chosen_named_and_given_back(tiny_model: Path, tmp_path: Path) -> None:
    socket = tmp_path / "ctl.sock"
    with ray_cluster(2, num_cpus=1) as nodes:
        assert "no Ray cluster at 10.77.0.1:9" in refused_on(
            nodes[0], tiny_model, "--ray-address", "10.77.0.1:9"
        )
        here = ("--ray-address", f"10.77.0.1:{RAY_PORT}", "--placement-seconds", "20")
        words = refused_on(nodes[0], tiny_model, *here, "--threads", "4")
        assert "group 0 waits for 4 CPU on one node; " in words
        assert "(10.77.0.2) has 1 of 1 CPU free" in words
        flags = (*SETTINGS, "--control-socket", socket, "--node-port", "7001")
        with ray_server(nodes, tiny_model, *flags) as server:
            there = groups_of(socket)[0].node
            other = "10.77.0.2" if "10.77.0.1" in there else "10.77.0.1"
            assert ctl(socket, "add", "--node", other)[0] == 0
            assert [other in group.node for group in groups_of(socket)] == [False, True]
            series = f'unisono_group_node{{group="1",node="{groups_of(socket)[1].node}"}}'
            assert metrics(server.url)[series] == 1
            assert ctl(socket, "restart", "1")[0] == 0
            assert ctl(socket, "remove", "0")[0] == 0
            assert [group.group for group in groups_of(socket)] == [1]
        # The server has been killed: what it had on nodes ends, and gives its places back.
        wait_until(
            lambda: not any(node.pids_of("unisono: ") for node in nodes), 60, "agents and ranks end"
        )
        with ray_server(nodes, tiny_model, *flags, "--dp", "2"):
            assert len(groups_of(socket)) == 2
