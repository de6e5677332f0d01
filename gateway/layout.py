"""Which groups there are, with how many ranks, where they compute and with how many threads.

From --tp and --dp, or from the list of [[groups]] in the settings file. Knows no process.
"""

import logging
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backend.config.errors import ModelError
from backend.settings import EngineSettings
from backend.wire.tcp.address import MAX_SECRET_BYTES, MIN_SECRET_BYTES, LeadAddress
from gateway.group_names import PRIMARY
from gateway.settings import GroupSettings, ServerSettings, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """One group's settings, how many ranks the groups before it have, and what it is called.

    node: the only one that will do, "" for any.
    address: of a group that another gateway has started; nothing is started for it here.
    """

    engine: EngineSettings
    first_rank: int
    name: str = PRIMARY
    node: str = ""
    address: LeadAddress | None = None


def layout(settings: Settings) -> list[GroupPlace]:
    """Return every group's place. Raises ModelError if devices and ranks do not match."""
    engine = settings.engine
    server = settings.server
    groups = settings.groups or _joined(server) or _alike(engine, server.group_name)
    joined = [group for group in groups if group.address]
    groups = tuple(group for group in groups if not group.address)
    secret = read_secret(server.group_secret) if joined else b""
    if joined:
        _check_authorities(server.group_tls_ca)
    if server.launcher == "local":
        _refuse_nodes(groups, engine.nodes)
        shares = _threads(groups, engine.threads, len(os.sched_getaffinity(0)))
    else:  # 0: as many as the node has for it
        _refuse_names(groups, engine.nodes)
        shares = [group.threads or engine.threads for group in groups]
    places = []
    first_rank = 0
    for group, threads in zip(groups, shares, strict=True):
        own = msgspec.structs.replace(
            engine,
            tp=_ranks_a_stage(group.ranks, group.pp),
            pp=group.pp,
            dp=len(groups),
            devices=group.devices,
            threads=threads,
        )
        places.append(GroupPlace(own, first_rank, group.name, group.node))
        first_rank += group.ranks
    return places + [
        GroupPlace(engine, first_rank, group.name, address=_address(group, secret, server))
        for group in joined
    ]


def read_secret(file: str) -> bytes:
    """Return what a file of a secret holds, less blanks around it. Raises ModelError."""
    if not file:
        raise ModelError(
            "other gateways are let into groups, and this one into theirs, by a secret\n"
            "name its file: --group-secret FILE"
        )
    try:
        with Path(file).open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            # What is longer is no secret, whatever it is.
            secret = stream.read(2 * MAX_SECRET_BYTES).strip()
    except OSError as error:
        raise ModelError(f"the secret {file} cannot be read: {error.strerror}") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ModelError(
            f"the secret {file} may be changed by others than its owner; chmod go-w {file}"
        )
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ModelError(
            f"the secret {file} has {len(secret)} bytes; {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} "
            "are needed\nmake one: head -c 32 /dev/urandom | base64 > FILE"
        )
    return secret


def warn_of_readable_secret(file: str) -> None:
    """Log it if everybody on this machine may read a file of a secret."""
    try:
        is_readable = bool(os.stat(file).st_mode & stat.S_IROTH)
    except OSError:
        return  # who reads it says so
    if is_readable:
        logger.warning("the secret %s may be read by everybody; chmod o-r %s", file, file)


def _check_authorities(file: str) -> None:
    """Raise ModelError for a file that no certificate could be tried by."""
    if not file:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError as error:  # an SSLError is an OSError
        raise ModelError(
            f"{file} has no certificates of authorities: {error.strerror or error}\n"
            "name a PEM file: --group-tls-ca FILE"
        ) from error


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
    ranks = ranks or len(devices) or engine.num_ranks
    if not devices and ranks == engine.num_ranks:
        devices = engine.devices
    if len(devices) not in (0, ranks):
        raise ModelError(f"{len(devices)} devices for {ranks} ranks; name one for each")
    tp = _ranks_a_stage(ranks, engine.pp)
    own = msgspec.structs.replace(
        engine, tp=tp, devices=devices, max_num_seqs=max_num_seqs or engine.max_num_seqs
    )
    return GroupPlace(own, first.first_rank, first.name if name is None else name, node)


def shape(places: list[GroupPlace]) -> str:
    """The layout in words."""
    if joined := sum(place.address is not None for place in places):
        own = [place for place in places if place.address is None]
        words = f"{joined} joined group{'' if joined == 1 else 's'}"
        return f"{shape(own)}, {words}" if own else words
    forms = {(place.engine.tp, place.engine.pp) for place in places}
    if len(forms) == 1:
        [(tp, pp)] = forms
        stages = f" x PP {pp}" if pp > 1 else ""
        return f"TP {tp}{stages} x DP {len(places)}"
    ranks = ", ".join(str(place.engine.num_ranks) for place in places)
    return f"{len(places)} groups of {ranks} ranks"


def _ranks_a_stage(ranks: int, pp: int) -> int:
    if ranks % pp:
        raise ModelError(
            f"{ranks} ranks cannot be {pp} stages of equally many: use a multiple of {pp} ranks"
        )
    return ranks // pp


def _joined(server: ServerSettings) -> tuple[GroupSettings, ...]:
    """The groups of --join."""
    return tuple(
        GroupSettings(name=server.group_name, address=address, fingerprint=server.join_fingerprint)
        for address in server.join
    )


def _address(group: GroupSettings, secret: bytes, server: ServerSettings) -> LeadAddress:
    host, _, port = group.address.rpartition(":")
    if not 0 < int(port) <= 65535:
        raise ModelError(f"{group.address} names no port: they go from 1 to 65535")
    pin = bytes.fromhex(group.fingerprint.replace(":", ""))
    return LeadAddress(
        host.strip("[]"), int(port), secret, fingerprint=pin, ca_file=server.group_tls_ca
    )


def _alike(engine: EngineSettings, name: str) -> tuple[GroupSettings, ...]:
    """--dp groups of --tp ranks in each of --pp stages."""
    devices, ranks = engine.devices, engine.num_ranks
    if len(devices) not in (0, ranks * engine.dp):
        stages = f" times --pp {engine.pp}" if engine.pp > 1 else ""
        raise ModelError(
            f"--devices names {len(devices)} devices for {ranks * engine.dp} ranks: "
            f"--tp {engine.tp}{stages} times --dp {engine.dp}; name one for each"
        )
    return tuple(
        GroupSettings(
            ranks, devices[number * ranks : (number + 1) * ranks], name=name, pp=engine.pp
        )
        for number in range(engine.dp)
    )


def _refuse_names(groups: tuple[GroupSettings, ...], nodes: int) -> None:
    if nodes > 1 and (named := [group.node for group in groups if group.node]):
        raise ModelError(
            f"a group is to run on node {named[0]}, and on --nodes {nodes}\n"
            "name no node for groups on several, or leave --nodes out"
        )


def _refuse_nodes(groups: tuple[GroupSettings, ...], nodes: int) -> None:
    if nodes > 1:
        raise ModelError(
            f"--nodes {nodes}: groups on several nodes are placed by --launcher ray\n"
            "leave --nodes out, or serve with --launcher ray"
        )
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
