"""Which groups there are, with how many ranks, where they compute and with how many threads.

From --tp and --dp, or from the list of [[groups]] in the settings file. Knows no process.
"""

import os
from dataclasses import dataclass

import msgspec

from backend.config.errors import ModelError
from backend.settings import EngineSettings
from gateway.group_names import PRIMARY
from gateway.settings import GroupSettings, Settings


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """One group's settings, how many ranks the groups before it have, and what it is called.

    node: the only one that will do, "" for any.
    """

    engine: EngineSettings
    first_rank: int
    name: str = PRIMARY
    node: str = ""


def layout(settings: Settings) -> list[GroupPlace]:
    """Return every group's place. Raises ModelError if devices and ranks do not match."""
    engine = settings.engine
    groups = settings.groups or _alike(engine, settings.server.group_name)
    if settings.server.launcher == "local":
        _refuse_nodes(groups)
        shares = _threads(groups, engine.threads, len(os.sched_getaffinity(0)))
    else:  # 0: as many as the node has for it
        shares = [group.threads or engine.threads for group in groups]
    places = []
    first_rank = 0
    for group, threads in zip(groups, shares, strict=True):
        own = msgspec.structs.replace(
            engine, tp=group.ranks, dp=len(groups), devices=group.devices, threads=threads
        )
        places.append(GroupPlace(own, first_rank, group.name, group.node))
        first_rank += group.ranks
    return places


def another_place(
    first: GroupPlace,
    name: str | None,
    ranks: int,
    devices: tuple[str, ...],
    max_num_seqs: int,
    node: str = "",
) -> GroupPlace:
    """Return the place of one more group: that of the first, but for what is not None, 0 or empty.

    Raises ModelError if devices and ranks do not match.
    """
    engine = first.engine
    tp = ranks or len(devices) or engine.tp
    if not devices and tp == engine.tp:
        devices = engine.devices
    if len(devices) not in (0, tp):
        raise ModelError(f"{len(devices)} devices for {tp} ranks; name one for each")
    own = msgspec.structs.replace(
        engine, tp=tp, devices=devices, max_num_seqs=max_num_seqs or engine.max_num_seqs
    )
    return GroupPlace(own, first.first_rank, first.name if name is None else name, node)


def shape(places: list[GroupPlace]) -> str:
    """The layout in words."""
    ranks = [place.engine.tp for place in places]
    if len(set(ranks)) == 1:
        return f"TP {ranks[0]} x DP {len(ranks)}"
    return f"{len(ranks)} groups of {', '.join(map(str, ranks))} ranks"


def _alike(engine: EngineSettings, name: str) -> tuple[GroupSettings, ...]:
    """--dp groups of --tp ranks."""
    devices, tp = engine.devices, engine.tp
    if len(devices) not in (0, tp * engine.dp):
        raise ModelError(
            f"--devices names {len(devices)} devices for {tp * engine.dp} ranks: "
            f"--tp {tp} times --dp {engine.dp}; name one for each"
        )
    return tuple(
        GroupSettings(tp, devices[number * tp : (number + 1) * tp], name=name)
        for number in range(engine.dp)
    )


def _refuse_nodes(groups: tuple[GroupSettings, ...]) -> None:
    if named := [group.node for group in groups if group.node]:
        raise ModelError(
            f"a group is to run on node {named[0]}, and all run here\n"
            "--launcher ray places groups on nodes"
        )


def _threads(groups: tuple[GroupSettings, ...], common: int, num_cores: int) -> list[int]:
    """Threads a rank of each group: as set, or an equal share of the cores that are left."""
    told = [group.threads or common for group in groups]
    taken = sum(threads * group.ranks for threads, group in zip(told, groups, strict=True))
    others = sum(group.ranks for threads, group in zip(told, groups, strict=True) if not threads)
    share = max(1, (num_cores - taken) // max(1, others))
    return [threads or share for threads in told]
