"""The lines of `unisono ctl`: what is accepted, and what a listing looks like."""

import msgspec
import pytest

from gateway.commands.ctl import table
from gateway.supervision.control_messages import (
    Add,
    Done,
    DrainGroup,
    GroupView,
    List,
    Listing,
    Logs,
    RankView,
    Remove,
    Restart,
    WorkerView,
    decode_reply,
    decode_request,
    encode,
)
from gateway.supervision.fault import Fault

FAULT = Fault(
    "rank 1.0", 7, "killed by SIGSEGV", "", 3, "step", 12, 2, 40, [(0, 5)], ["first", "second"]
)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"ask": "list"}', List()),
        (b'{"ask": "drain", "group": 1, "timeout_s": 2.5}', DrainGroup(1, 2.5)),
        (b'{"ask": "remove", "group": 1}', Remove(1)),
        (b'{"ask": "add"}', Add()),
        (b'{"ask": "add", "name": "batch", "ranks": 2}', Add("batch", 2)),
        (b'{"ask": "restart"}', Restart()),
        (b'{"ask": "restart", "group": 0}', Restart(0)),
        (b'{"ask": "logs", "follow": true}', Logs(True)),
    ],
)
def test_requests_are_one_json_object_a_line(line: bytes, request_: object) -> None:
    assert decode_request(line) == request_
    assert decode_request(encode(request_)) == request_
    assert b"\n" not in encode(request_)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"list",
        b'{"ask": "stop"}',
        b'{"ask": "drain"}',
        b'{"ask": "add", "x": 1}',
        b'{"ask": "add", "name": "a b"}',
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_request(line)


def test_listing_travels_and_is_shown_with_its_last_fault() -> None:
    rank = RankView(0, 11, "step", 12, 0.04, 250_000_000, 2, "cpu")
    listing = Listing(
        "http://127.0.0.1:8000",
        1,
        [
            GroupView(1, "ready", 4, 1, 2, 3, 90, 100, [rank], FAULT),
            GroupView(2, "stopped", 0, 0, 0, 0, 0, 0, [], name="batch"),
        ],
        [WorkerView(0, 12, 60_000_000, 0, [1]), WorkerView(1, 0, 0, 2, [])],
    )
    reply = decode_reply(encode(listing))
    assert reply == listing
    shown = table(listing)
    assert (
        "group 1  ready  epoch 4  2 running, 3 waiting  KV 90 of 100 blocks free  died 1 x" in shown
    )
    assert "  rank 1.0  pid 11  cpu  step  step 12  0.0 s ago  250 MB  2 threads" in shown
    assert "  last fault: rank 1.0 killed by SIGSEGV; in step, step 12 of 2 sequences" in shown
    assert "new or changed: 0:5; last said: first | second" in shown
    assert "group 2 (batch)  stopped\n" in shown
    assert "worker 0  pid 12  60 MB  serves groups: 1" in shown
    assert "worker 1  starting  serves groups: none" in shown
    assert isinstance(decode_reply(encode(Done("x"))), Done)
