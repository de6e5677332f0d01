"""What a group asks of nodes that are only said to exist."""

import pytest

from backend.settings import EngineSettings
from gateway.nodes.bundles import Node, NoSuchNode, find, shortage, with_resources


def node(number: int, cpus: float = 8, gpus: float = 0, free: float = 8) -> Node:
    resources = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    return Node(f"id{number}", f"10.0.0.{number}", "", f"host{number}", resources, {"CPU": free})


def test_threads_nobody_set_are_shared_by_the_groups_of_a_node() -> None:
    engine, bundle = with_resources(EngineSettings(tp=2, dp=4), [node(1), node(2, cpus=16)], {})
    assert (engine.threads, engine.device) == (2, "cpu")
    assert bundle == {"CPU": 4.0}


def test_nodes_without_cpus_share_no_groups() -> None:
    """A head with --num-cpus=0 left one thread to every group on nodes of many."""
    nodes = [node(1, cpus=0), node(2), node(3), Node("id4", "10.0.0.4", "", "host4", {}, {})]
    engine, bundle = with_resources(EngineSettings(dp=2), nodes, {})
    assert (engine.threads, bundle) == (8, {"CPU": 8.0})


def test_threads_that_are_set_are_asked_for() -> None:
    engine, bundle = with_resources(EngineSettings(tp=2, threads=3), [node(1)], {"fast": 1.0})
    assert engine.threads == 3
    assert bundle == {"CPU": 6.0, "fast": 2.0}


def test_rank_gets_a_gpu_where_there_are_some() -> None:
    engine, bundle = with_resources(EngineSettings(tp=2), [node(1, gpus=4)], {})
    assert engine.device == "cuda"
    assert bundle == {"CPU": 2.0, "GPU": 2.0}
    engine, bundle = with_resources(EngineSettings(tp=2, device="cpu"), [node(1, gpus=4)], {})
    assert engine.device == "cpu" and "GPU" not in bundle


def test_node_is_found_by_name_address_and_id() -> None:
    nodes = [node(1), node(2)]
    assert [find(name, nodes).id for name in ("host2", "10.0.0.2", "id2")] == ["id2"] * 3
    with pytest.raises(NoSuchNode, match=r"no node host3; there are: host1 \(10.0.0.1\), host2"):
        find("host3", nodes)
    with pytest.raises(NoSuchNode, match="several nodes are called host1"):
        find("host1", [node(1), Node("id9", "10.0.0.9", "", "host1", {}, {})])


def test_shortage_names_the_bundle_and_what_there_is() -> None:
    words = shortage({"CPU": 4.0, "GPU": 1.0}, [node(1, free=3)])
    assert words == "for 4 CPU, 1 GPU on one node; host1 (10.0.0.1) has 3 of 8 CPU, 0 of 0 GPU free"
    pinned = {"CPU": 4.0, "node:10.0.0.1": 0.001}
    words = shortage(pinned, [node(1, free=3), node(2, free=8)])
    assert words == "for 4 CPU on node 10.0.0.1; it has 3 of 8 CPU free"
    assert shortage(pinned, [node(2, free=8)]) == "for 4 CPU on node 10.0.0.1; it is not there"
    assert shortage({"CPU": 1.0}, []) == "for 1 CPU on one node; no node"
