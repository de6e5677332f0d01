"""All that is asked of Ray: nodes, a placement group for each group of ranks, an actor in it.

Both are detached: a placer that dies, or a head that restarts, ends no group. Each agent ends when
its supervisor does, and its actor gives the place back. No token, weight or heartbeat goes
through Ray. Used by the placer's process alone.
"""

import logging
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from gateway.nodes.bundles import PIN, PINNED, Node, Resources
from gateway.nodes.ray_part import NodePart

logger = logging.getLogger(__name__)

NAMESPACE = "unisono"
PREFIX = "unisono/"


def join(address: str) -> None:
    """Connect this process with a cluster. Raises ConnectionError, and RuntimeError for another
    version of Ray or Python than the cluster's."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)


def own_address() -> str:
    """This machine's address, as the cluster's head is reached from it.

    Ray's own answer, get_node_ip_address(), may be another node's. Until 2.53 it is read from the
    session's node_ip_address.json, in which each node that starts overwrites the one before, if
    they share the folder: on 2.53.0, to rewrite the file changed the answer. Since 2.54 it
    is that of a raylet among the processes it sees, the head's first: on 2.60.0 a second node
    which shares the process table got the head's.
    """
    head = ray.get_runtime_context().gcs_address.rpartition(":")[0].strip("[]")
    family = socket.AF_INET6 if ":" in head else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((head, 1))  # nothing is sent
        return str(probe.getsockname()[0])


def nodes() -> list[Node]:
    """Return the living nodes, by address."""
    free = ray._private.state.available_resources_per_node()
    found = [
        Node(
            each["NodeID"],
            each["NodeManagerAddress"],
            each["NodeName"],
            each["NodeManagerHostname"],
            each["Resources"],
            free.get(each["NodeID"], {}),
        )
        for each in ray.nodes()
        if each["Alive"]
    ]
    return sorted(found, key=lambda node: node.address)


class Reservation:
    """A placement group of a bundle a node, and the actor in each.

    Ray starts the actors once there is room, though whoever asked may be gone by then: no placement
    group is left that nobody would give back.
    """

    def __init__(
        self,
        name: str,
        bundle: Resources,
        node: Node | None,
        among: list[Node],
        count: int = 1,
    ) -> None:
        """node: the only one that will do; without it, one that has fewest of our groups. count:
        nodes, each with a bundle."""
        self.bundle = dict(bundle)
        if node is not None:
            self.bundle[PINNED + node.address] = PIN
        # What is on one node exchanges through its memory; parts for several are on as many.
        is_free = node is None and count == 1
        self._group = placement_group(
            [self.bundle] * count,
            strategy="STRICT_PACK" if count == 1 else "STRICT_SPREAD",
            name=PREFIX + name,
            lifetime="detached",
            _soft_target_node_id=_emptiest(bundle, among) if is_free else None,
        )
        self._ready = self._group.ready()
        self._actors = [self._make_actor(index) for index in range(count)]
        self._runs: list[Any] = []

    def has_room(self) -> bool:
        """Whether a node has been found. Does not wait."""
        return bool(ray.wait([self._ready], timeout=0)[0])

    def _make_actor(self, index: int) -> Any:
        strategy = PlacementGroupSchedulingStrategy(self._group, index)
        bundle = dict(self.bundle)
        options = {
            "num_cpus": bundle.pop("CPU"),
            "num_gpus": bundle.pop("GPU", 0),
            "resources": bundle,
            "scheduling_strategy": strategy,
            "lifetime": "detached",
            "max_restarts": 0,
            "name": f"{self._group.id.hex()}-{index}",
        }
        return ray.remote(NodePart).options(**options).remote()

    def start(self, orders: Sequence[bytes]) -> str:
        """Have each actor carry out an order; return the titles of their nodes."""
        self._runs = [
            actor.run.remote(order) for actor, order in zip(self._actors, orders, strict=True)
        ]
        return " + ".join(self._title(index) for index in range(len(orders)))

    def _title(self, index: int) -> str:
        node_id = _node_of(self._group, index)
        return next((node.title for node in nodes() if node.id == node_id), node_id)

    @property
    def is_started(self) -> bool:
        return bool(self._runs)

    def end(self) -> str | None:
        """Return how the first actor to end has ended; None while all run. Does not wait."""
        ended = ray.wait(self._runs, timeout=0)[0]
        if not ended:
            return None
        try:
            return str(ray.get(ended[0])) or "its agent has exited"
        except ray.exceptions.RayError as error:
            return _in_a_line(error)

    def remove(self) -> None:
        """End what runs there, and give everything back."""
        remove_placement_group(self._group)


def remove_named(name: str) -> None:
    """Remove a placement group that another placer has made, if it is there."""
    try:
        remove_placement_group(ray.util.get_placement_group(PREFIX + name))
    except ValueError:
        pass  # its actor was sooner


def remove_left_over(owner: str, kept: set[str]) -> None:
    """Remove placement groups that an earlier placer of `owner` has left, but for those kept."""
    for entry in placement_group_table().values():
        name = str(entry["name"])
        is_ours = name.startswith(f"{PREFIX}{owner}/") and entry["state"] != "REMOVED"
        if is_ours and name.removeprefix(PREFIX) not in kept:
            logger.warning("placement group %s is left over and removed", name)
            remove_placement_group(ray.util.get_placement_group(name))


def _emptiest(bundle: Resources, among: list[Node]) -> str | None:
    """The node with fewest groups of ours among those that could have this one; the id of it."""
    taken: Counter[str] = Counter()
    for entry in placement_group_table().values():
        if str(entry["name"]).startswith(PREFIX) and entry["state"] in ("CREATED", "PENDING"):
            taken.update(entry["bundles_to_node_id"].values())
    fits = [
        node
        for node in among
        if all(node.free.get(kind, 0) >= amount for kind, amount in bundle.items())
    ]
    return min(fits, key=lambda node: taken[node.id]).id if fits else None


def _node_of(group: PlacementGroup, index: int) -> str:
    return str(placement_group_table(group)["bundles_to_node_id"].get(index, ""))


def _in_a_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if "ModuleNotFoundError" in str(error) else (lines or [repr(error)])[0]
