"""`unisono ctl`: shows the processes of a running server, and changes its groups while it serves.

Talks to the supervisor's control socket; what it says is in supervision/control_messages.py.
"""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.group_names import PRIMARY
from gateway.options import SettingsError
from gateway.supervision.control_messages import (
    Add,
    Done,
    DrainGroup,
    GroupView,
    List,
    Listing,
    LogLine,
    Logs,
    OperationProgress,
    Refused,
    Remove,
    Reply,
    Request,
    Restart,
    decode_reply,
    encode,
)
from gateway.supervision.control_socket import (
    SUFFIX,
    check_directory,
    is_alive,
    runtime_directory,
)


def run(action: str, flags: Mapping[str, Any]) -> int:
    """Carry out one of the commands; return the exit status. Raises SettingsError."""
    request = _request(action, flags)
    as_json = flags.get("as_json", False)
    path = Path(flags["socket"]) if "socket" in flags else _only_socket()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            check_directory(path.parent)
            sock.connect(str(path))
            sock.sendall(encode(request) + b"\n")
        except OSError as error:
            sys.exit(f"unisono: no server answers at {path}: {error.strerror or error}")
        try:
            return _show(_replies(sock), as_json=as_json)
        except ConnectionResetError:
            sys.exit(f"unisono: the server at {path} has gone")


def _request(action: str, flags: Mapping[str, Any]) -> Request:
    timeout_s = _number(flags, "timeout", float, 0.0)
    match action:
        case "drain":
            return DrainGroup(_number(flags, "group", int, -1), timeout_s)
        case "remove":
            return Remove(_number(flags, "group", int, -1), timeout_s)
        case "add":
            try:
                ranks = _number(flags, "tp", int, 0)
                wanted = Add(flags.get("name"), ranks, node=flags.get("node", ""))
                return msgspec.convert(wanted, Add, from_attributes=True)
            except msgspec.ValidationError as error:
                raise SettingsError(f"add: {error}") from error
        case "logs":
            return Logs(flags.get("follow", False))
        case "restart":
            if ("group" in flags) == ("rolling" in flags):
                raise SettingsError("restart which? Name a group, or give --rolling for all")
            group = _number(flags, "group", int, -1) if "group" in flags else None
            return Restart(group, timeout_s)
    return List()


def _number(flags: Mapping[str, Any], name: str, kind: type, default: float) -> Any:
    try:
        value = kind(flags.get(name, default))
    except ValueError as error:
        raise SettingsError(f"{name} must be a number, not {flags[name]!r}") from error
    if name in flags and not 0 <= value < 2**31:
        raise SettingsError(f"{name} must be 0 or more, not {flags[name]!r}")
    return value


def _only_socket() -> Path:
    """The socket of the one server that runs here. Raises SettingsError if there is not one."""
    directory = runtime_directory(os.environ)
    found = [path for path in sorted(directory.glob(f"*{SUFFIX}")) if is_alive(path)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SettingsError(f"no server has its socket in {directory}; name it with --socket")
    raise SettingsError(f"which server? Give --socket: {', '.join(map(str, found))}")


def _replies(sock: socket.socket) -> Iterator[Reply]:
    with sock.makefile("rb") as lines:
        for line in lines:
            yield decode_reply(line)


def _show(replies: Iterator[Reply], *, as_json: bool) -> int:
    for reply in replies:
        if as_json:
            print(encode(reply).decode(), flush=True)
            if isinstance(reply, Refused):
                return 1
            continue
        match reply:
            case Listing():
                print(table(reply))
            case OperationProgress(text=text) | LogLine(text=text):
                print(text, flush=True)
            case Done(text=text):
                if text:
                    print(text)
            case Refused(text=text):
                print(f"unisono: {text}", file=sys.stderr)
                return 1
    return 0


def table(listing: Listing) -> str:
    """Everything there is, for a person."""
    lines = [f"{listing.url}  supervisor pid {listing.pid}"]
    for group in listing.groups:
        lines += ["", *_group_lines(group)]
    lines.append("")
    for worker in listing.workers:
        serves = ", ".join(map(str, worker.serves)) or "none"
        pid = f"pid {worker.pid}  {_megabytes(worker.rss_bytes)}" if worker.pid else "starting"
        lines.append(f"worker {worker.worker}  {pid}  serves groups: {serves}")
    return "\n".join(lines)


def _group_lines(group: GroupView) -> list[str]:
    name = "" if group.name == PRIMARY else f" ({group.name})"
    head = f"group {group.group}{name}  {group.state}"
    if group.node:
        head += f" on {group.node}"
    if group.ranks:
        head += f"  epoch {group.epoch}  {group.running} running, {group.waiting} waiting"
        head += f"  KV {group.free_blocks} of {group.total_blocks} blocks free"
    if group.deaths:
        head += f"  died {group.deaths} x"
    lines = [head]
    if group.waits_for:
        lines.append(f"  waits {group.waits_for}")
    for rank in group.ranks:
        lines.append(
            f"  rank {group.group}.{rank.rank}  pid {rank.pid}  {rank.device or '-'}  {rank.phase}"
            f"  step {rank.step}  {rank.seconds:.1f} s ago  {_megabytes(rank.rss_bytes)}"
            f"  {rank.threads} threads"
        )
    if group.last_fault is not None:
        lines.append(f"  last fault: {group.last_fault}")
    return lines


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
