"""What a group asks of a cluster, and what there is: plain numbers, no Ray.

A bundle is what Ray calls resources that must come from one node.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from backend.settings import EngineSettings

# A sliver of the resource that Ray gives every node under its address pins a bundle there.
PINNED = "node:"
PIN = 0.001

Resources = dict[str, float]


class NoSuchNode(Exception):
    """A group is to run on a node that is not there. The message names those that are."""


@dataclass(frozen=True, slots=True)
class Node:
    """A living node. resources: all it has, free: what of it nobody has asked for."""

    id: str
    address: str
    name: str
    host: str
    resources: Resources
    free: Resources

    def is_called(self, name: str) -> bool:
        return name in (self.id, self.address, self.name, self.host)

    @property
    def title(self) -> str:
        return f"{self.host} ({self.address})"


def find(name: str, among: list[Node]) -> Node:
    """Return the node that goes by a name, an address or an id. Raises NoSuchNode."""
    found = [node for node in among if node.is_called(name)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(node.title for node in among) or "none"
    problem = "there is no node" if not found else "several nodes are called"
    raise NoSuchNode(f"{problem} {name}; there are: {there}")


def with_resources(
    engine: EngineSettings, among: list[Node], custom: Mapping[str, float]
) -> tuple[EngineSettings, Resources]:
    """Decide what a group's ranks compute with; return that, and the bundle to ask for.

    Threads that nobody has set are a node's CPUs, shared by the groups that it gets. A node without
    CPUs gets none: a head, say, or the server's own.
    """
    among = [node for node in among if node.resources.get("CPU", 0)]
    gpus = any(node.resources.get("GPU", 0) for node in among)
    is_cuda = engine.device == "cuda" or (engine.device == "auto" and gpus)
    num_groups = -(-engine.dp * engine.nodes // max(1, len(among)))
    ranks = engine.ranks_a_node
    cpus = min((node.resources["CPU"] for node in among), default=1)
    share = 1 if is_cuda else max(1, int(cpus) // (ranks * num_groups))
    threads = engine.threads or share
    bundle: Resources = {"CPU": float(ranks * threads)}
    if is_cuda:
        bundle["GPU"] = float(ranks)
    bundle |= {name: ranks * amount for name, amount in custom.items()}
    device = "cuda" if is_cuda else "cpu"
    return msgspec.structs.replace(engine, threads=threads, device=device), bundle


def shortage(bundle: Resources, among: list[Node], count: int = 1) -> str:
    """Say which bundle waits, on how many nodes, and what there is."""
    wanted = _amounts(bundle)
    kinds = [kind for kind in bundle if not kind.startswith(PINNED)]
    pinned = [kind.removeprefix(PINNED) for kind in bundle if kind.startswith(PINNED)]
    there = "; ".join(f"{node.title} has {_free(node, kinds)}" for node in among) or "no node"
    where = "one node" if count == 1 else f"each of {count} nodes"
    if pinned:
        where = f"node {pinned[0]}"
        there = (
            "; ".join(f"it has {_free(node, kinds)}" for node in among if node.address == pinned[0])
            or "it is not there"
        )
    return f"for {wanted} on {where}; {there}"


def _free(node: Node, kinds: list[str]) -> str:
    each = [f"{node.free.get(k, 0):g} of {node.resources.get(k, 0):g} {k}" for k in kinds]
    return ", ".join(each) + " free"


def _amounts(bundle: Resources) -> str:
    return ", ".join(f"{amount:g} {kind}" for kind, amount in bundle.items() if amount > PIN)
