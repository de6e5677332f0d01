"""Groups on the nodes of a Ray cluster, which are network namespaces of this machine.

Whatever becomes of a node, its requests go on elsewhere, and every text is that of a server with
all groups on one machine.
"""

from pathlib import Path

import pytest

from gateway.supervision.control_messages import GroupView
from tests.e2e.control import listing
from tests.e2e.crowd import ask_all, requests_of
from tests.e2e.ray_nodes import ray_cluster, ray_server, why_no_ray
from tests.e2e.server import Server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_no_ray()), reason=why_no_ray())]

SETTINGS = ("--exact", "--threads", "1", "--kv-cache-bytes", "8000000")


def groups_of(socket: Path) -> list[GroupView]:
    return listing(socket).groups


def test_two_nodes_answer_as_one_machine_and_outlive_a_raylet(
    tiny_model: Path, tiny_exact_server: Server, tmp_path: Path
) -> None:
    requests = requests_of(6, 200)
    expected = ask_all(tiny_exact_server.url, requests)
    socket = tmp_path / "ctl.sock"
    flags = (*SETTINGS, "--dp", "2", "--control-socket", socket)
    with ray_cluster(2, num_cpus=1) as nodes, ray_server(nodes, tiny_model, *flags) as server:
        groups = groups_of(socket)
        assert {group.node.partition("(")[2] for group in groups} == {"10.77.0.1)", "10.77.0.2)"}
        assert ask_all(server.url, requests) == expected
        assert ask_all(server.url, requests, disturb=nodes[1].kill_raylet) == expected
        [lost] = [group for group in groups_of(socket) if group.last_fault is not None]
        assert lost.last_fault is not None and "10.77.0.2" in lost.last_fault.summary
        nodes[1].stop()
        nodes[1].start(1)
        wait_until(
            lambda: all(group.state == "ready" for group in groups_of(socket)),
            60,
            "the group is placed again",
        )
        assert ask_all(server.url, requests) == expected
