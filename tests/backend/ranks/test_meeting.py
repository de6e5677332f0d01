"""Ranks of a group on several machines find each other: threads here, over loopback."""

import threading

import pytest

from backend.config.errors import ModelError
from backend.ranks import meeting
from backend.ranks.meeting import FarLinks, PlanFanOut, meet
from backend.wire.channel import ChannelBroken, PeerGone
from backend.wire.control import Meet
from backend.wire.group_shape import GroupShape
from backend.wire.tcp.address import LeadAddress, new_secret
from backend.wire.tcp.encryption import fingerprint, self_signed_pair
from backend.wire.tcp.node_exchange import NodeExchange
from backend.wire.tcp.rank_link import TcpLink
from backend.wire.tcp.sockets import create_listener

LOOPBACK = "127.0.0.1"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls a rank that does not listen yet tries again at once."""
    monkeypatch.setattr(meeting, "AGAIN_SECONDS", 0.005)


def together(
    tp: int, pp: int, nodes: int, certificate: str = "", key: str = ""
) -> dict[int, FarLinks]:
    """Have all ranks of a group meet; return the links of each."""
    listener = create_listener(LOOPBACK)
    pin = fingerprint(certificate) if certificate else b""
    port = int(listener.getsockname()[1])
    told = Meet(LeadAddress(LOOPBACK, port, new_secret(), 5, pin), LOOPBACK, certificate, key)
    met: dict[int, FarLinks] = {}
    errors: list[Exception] = []

    def run(rank: int, shape: GroupShape) -> None:
        try:
            own = listener if rank == 0 else None
            met[rank] = meet(rank, shape, 9, told, own, lambda: None)
        except Exception as error:
            errors.append(error)

    shapes = [GroupShape.part(tp, pp, nodes, index) for index in range(nodes)]
    ranks = [(rank, shape) for shape in shapes for rank in shape.local]
    threads = [threading.Thread(target=run, args=each, daemon=True) for each in reversed(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors and len(met) == tp * pp, errors
    return dict(sorted(met.items()))


def close(met: dict[int, FarLinks]) -> None:
    for links in met.values():
        for link in (links.before, links.after, links.lead, *links.ranks.values()):
            if link is not None:
                link.close()
        if links.sums is not None:
            links.sums.close()


@pytest.mark.parametrize(("tp", "pp", "nodes"), [(1, 2, 2), (2, 2, 2), (1, 3, 3), (1, 4, 2)])
def test_stages_on_other_machines_are_linked(tp: int, pp: int, nodes: int) -> None:
    met = together(tp, pp, nodes)
    each = tp * pp // nodes
    for rank, links in met.items():
        is_border = (rank + tp) // each != rank // each and rank + tp < tp * pp
        assert (links.after is not None) == is_border
        assert (links.lead is not None) == (rank >= each)
        if links.after is not None:
            before = met[rank + tp].before
            assert before is not None
            links.after.send(b"stream of %d" % rank)
            assert before.receive() == b"stream of %d" % rank
            before.send(b"numbers")
            assert links.after.receive() == b"numbers"
    assert sorted(met[0].ranks) == list(range(each, tp * pp))
    plans = PlanFanOut(None, [*met[0].ranks.values()])
    assert plans.write(b"plan")
    for rank in met[0].ranks:
        lead = met[rank].lead
        assert lead is not None and lead.receive() == b"plan"
        lead.send(b"drawn")
        assert met[0].ranks[rank].receive() == b"drawn"
    close(met)


@pytest.mark.parametrize(("tp", "pp", "nodes"), [(2, 1, 2), (3, 1, 3), (4, 1, 2), (4, 2, 4)])
def test_first_ranks_of_a_stage_on_several_machines_exchange(tp: int, pp: int, nodes: int) -> None:
    met = together(tp, pp, nodes)
    each, of_stage = tp * pp // nodes, nodes // pp
    assert [rank for rank, links in met.items() if links.sums] == [
        rank for rank in met if rank % each == 0
    ]
    results: dict[int, list[bytes]] = {}

    def say(rank: int, sums: NodeExchange) -> None:
        others = [node for node in range(of_stage) if node != rank % tp // each]
        into = {node: bytearray(8) for node in others}
        said = memoryview(b"rank %03d" % rank)
        sums.exchange(dict.fromkeys(others, said), {n: memoryview(into[n]) for n in others})
        results[rank] = [bytes(each) for each in into.values()]

    threads = [
        threading.Thread(target=say, args=(rank, links.sums), daemon=True)
        for rank, links in met.items()
        if links.sums is not None
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for rank, heard in results.items():
        stage = rank // tp * tp
        leads = [lead for lead in range(stage, stage + tp, each) if lead != rank]
        assert heard == [b"rank %03d" % lead for lead in leads]
    assert len(results) == nodes
    close(met)


def test_links_carry_streams_larger_than_any_buffer_encrypted() -> None:
    met = together(1, 2, 2, *self_signed_pair())
    after, before = met[0].after, met[1].before
    assert after is not None and before is not None
    stream = bytes(range(256)) * (4 << 12)  # 4 MiB
    for _ in range(3):
        after.send(stream)
    assert [before.receive() == stream for _ in range(3)] == [True] * 3
    close(met)


def test_link_gives_what_came_before_its_end() -> None:
    met = together(1, 2, 2)
    after, before = met[0].after, met[1].before
    assert after is not None and isinstance(before, TcpLink)
    after.send(b"last")
    assert before.receive() == b"last"
    after.close()
    with pytest.raises(PeerGone):
        before.receive()
    with pytest.raises(ChannelBroken):
        before.read()
    with pytest.raises(ChannelBroken):
        before.send(b"to nobody")
    met[0].after = None
    close(met)


def test_group_that_does_not_come_together_says_who_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meeting, "MEET_SECONDS", 0.0)
    listener = create_listener(LOOPBACK)
    port = int(listener.getsockname()[1])
    told = Meet(LeadAddress(LOOPBACK, port, new_secret(), 5), LOOPBACK)
    with pytest.raises(ModelError, match="rank 1 has not called within 0 s"):
        meet(0, GroupShape.part(1, 2, 2, 0), 9, told, listener, lambda: None)
    assert "secret" not in repr(told)
