"""How long ranks take to add up what each of them has.

Ranks of a CPU, and of devices whose links nobody knows, sum in the host's memory, at a latency and
a rate of the profile's. Ranks on GPUs sum by NCCL, whose own model is used here: a ring of
2 (R - 1) hops, each of which moves 1 / R of the message, in whichever of its three protocols is
fastest (its trees are no shorter within a node). Cards that NVLink joins sum short messages in one
pass (backend/distributed/one_shot.py).

Ranks of several machines sum on each, then the first ones over the network, then hand out
(backend/distributed/nodes_parallel.py), all in the hosts' memory.
"""

from typing import NamedTuple

from backend.placement.device_profile import DeviceProfile
from backend.placement.hop import Hop

# The host's bandwidth was measured with, or is meant for, so many ranks.
_LINK_RANKS = 2


class _Protocol(NamedTuple):
    """base_s: of a sum; hop_s: of each step of the ring. share: of the link's bandwidth that data
    has beside flags."""

    base_s: float
    hop_s: float
    share: float


# NCCL 2.30.7, ncclTunerConstantsDefaults: baseLatencies and hwLatencies of rings. LL sends a flag
# with every word and reaches a quarter; LL128, where links are NVLink alone, 120 of 128 bytes.
_NVLINK = (
    _Protocol(6.6e-6, 0.6e-6, 0.25),
    _Protocol(14.0e-6, 1.9e-6, 0.92),
    _Protocol(8.4e-6, 3.4e-6, 1.0),
)
_PCIE = (_Protocol(6.6e-6, 1.0e-6, 0.25), _Protocol(8.4e-6, 5.7e-6, 1.0))
# A call of PyTorch, as in gateway/planning/devices.py; an estimate.
_LAUNCH_S = 7e-6
# backend/distributed/one_shot.py: messages it takes, by ranks; and its three launches of some 3 us
# in a graph, an estimate.
ONE_SHOT_BYTES = {2: 1 << 20, 3: 512 << 10, 4: 512 << 10}
LEAST_ONE_SHOT_BYTES = 256 << 10
_ONE_SHOT_S = 9e-6
# backend/distributed/nodes_parallel.py: longer messages of more than two machines go in pieces; and
# what several ranks of a machine have summed goes in float32.
ONE_WAY_BYTES = 64 << 10
_SUM_BYTES, _DTYPE_BYTES = 4, 2


def sum_seconds(profile: DeviceProfile, num_bytes: float, ranks: int) -> float:
    """Return how long one sum of so many bytes takes; 0 of one rank."""
    if ranks == 1:
        return 0.0
    if not profile.peer_bandwidth:
        return _host_seconds(profile, num_bytes, ranks)
    if profile.has_nvlink and num_bytes <= one_shot_limit(ranks):
        return _ONE_SHOT_S + (ranks - 1) * num_bytes / profile.peer_bandwidth
    return ring_seconds(profile, num_bytes, ranks)


def far_sum_seconds(
    profile: DeviceProfile, network: Hop, num_bytes: float, ranks: int, nodes: int
) -> float:
    """Return how long one sum takes of so many ranks, as many on each of several machines.

    num_bytes: of 16-bit numbers. network: between two machines, each of which sends to and hears
    from all the others at once.
    """
    near = ranks // nodes
    near_s = 0.0
    if near > 1 or profile.kind != "cpu":
        num_bytes *= _SUM_BYTES / _DTYPE_BYTES
        # There and back: the total is handed out as parts are shown.
        near_s = 2 * _host_seconds(profile, num_bytes, near)
    others = nodes - 1
    if nodes == 2 or num_bytes <= ONE_WAY_BYTES:
        return near_s + network.seconds(others * num_bytes)
    return near_s + 2 * network.seconds(others * num_bytes / nodes)


def _host_seconds(profile: DeviceProfile, num_bytes: float, ranks: int) -> float:
    """Each rank shows its part and adds everyone's (backend/distributed/shm.py)."""
    shown = num_bytes * ranks / _LINK_RANKS
    return Hop(profile.link_bandwidth, profile.link_latency_s).seconds(shown)


def ring_seconds(profile: DeviceProfile, num_bytes: float, ranks: int) -> float:
    """Return how long NCCL takes for a sum of so many bytes."""
    hops = 2 * (ranks - 1)
    moved = hops * num_bytes / ranks
    return _LAUNCH_S + min(
        each.base_s + hops * each.hop_s + moved / (each.share * profile.peer_bandwidth)
        for each in (_NVLINK if profile.has_nvlink else _PCIE)
    )


def one_shot_limit(ranks: int) -> int:
    """Return the bytes of the longest message that is summed in one pass, where that is possible
    at all."""
    return ONE_SHOT_BYTES.get(ranks, LEAST_ONE_SHOT_BYTES)
