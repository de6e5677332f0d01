"""What `unisono ctl` and the supervisor say to each other: JSON, one object a line.

A connection carries one request and its replies. OperationProgress and LogLine may come any number
of times; Listing, Done and Refused end it.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from backend.settings import Device
from gateway.group_names import PRIMARY, GroupName, NodeName
from gateway.supervision.fault import Fault

MAX_LINE_BYTES = 1 << 20


class List(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask", tag="list"):
    """Show groups, ranks and workers."""


class DrainGroup(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask", tag="drain"
):
    """Hand a group no new work, let its streams end, stop it. timeout_s: 0 waits for ever."""

    group: int
    timeout_s: float = 0.0


class Add(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask", tag="add"):
    """Start one more group, like the first but for what is said here.

    name: what requests may call it. ranks, max_num_seqs: 0 for as many as the first has. devices:
    one for each rank. node: the one it is to run on, "" for any that has room.
    """

    name: GroupName | None = None
    ranks: Annotated[int, Meta(ge=0, le=64)] = 0
    devices: tuple[Device, ...] = ()
    max_num_seqs: Annotated[int, Meta(ge=0, le=4096)] = 0
    node: NodeName = ""


class Remove(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask", tag="remove"
):
    """Drain a group and forget it. Its number is never used again."""

    group: int
    timeout_s: float = 0.0


class Restart(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask", tag="restart"
):
    """Drain groups and start them again, one after another; all of them if none is named."""

    group: int | None = None
    timeout_s: float = 0.0


class Logs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask", tag="logs"):
    """Show the supervisor's last lines, with what the ranks said; go on with `follow`."""

    follow: bool = False


class RankView(msgspec.Struct, frozen=True):
    """A rank's process. seconds: since it last showed progress. cpu_s: that it has used."""

    rank: int
    pid: int
    phase: str
    step: int
    seconds: float
    rss_bytes: int
    threads: int
    device: str
    cpu_s: float = 0.0


class GroupView(msgspec.Struct, frozen=True):
    """A group. deaths: of all incarnations; epoch: of the last; load: of all workers together.

    tp, max_num_seqs, max_model_len: as it was told, 0 for its own choice. node: which it runs on,
    "" for the supervisor's own. waits_for: why it has not been placed on one yet.
    """

    group: int
    state: str
    epoch: int
    deaths: int
    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    ranks: list[RankView]
    last_fault: Fault | None = None
    name: str = PRIMARY
    tp: int = 1
    max_num_seqs: int = 0
    max_model_len: int = 0
    node: str = ""
    waits_for: str = ""


class WorkerView(msgspec.Struct, frozen=True):
    """An HTTP process and the groups it takes requests for. pid is 0 while there is none."""

    worker: int
    pid: int
    rss_bytes: int
    deaths: int
    serves: list[int]


class Listing(msgspec.Struct, frozen=True, tag_field="answer", tag="listing"):
    """Everything there is."""

    url: str
    pid: int
    groups: list[GroupView]
    workers: list[WorkerView]


class OperationProgress(msgspec.Struct, frozen=True, tag_field="answer", tag="progress"):
    """An operation has got on."""

    text: str


class LogLine(msgspec.Struct, frozen=True, tag_field="answer", tag="log"):
    """A line of the log."""

    text: str


class Done(msgspec.Struct, frozen=True, tag_field="answer", tag="done"):
    """What was asked has been done, or was so already. group: the one that is new."""

    text: str = ""
    group: int | None = None


class Refused(msgspec.Struct, frozen=True, tag_field="answer", tag="refused"):
    """What was asked cannot be done, or has failed."""

    text: str


Operation = DrainGroup | Add | Remove | Restart
Request = List | Logs | Operation
Reply = Listing | OperationProgress | LogLine | Done | Refused

encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode
decode_reply = msgspec.json.Decoder(Reply).decode
