"""What a node is told: an order that another build refuses before it reads it."""

import pytest

from gateway.nodes import node_messages
from gateway.nodes.build import build_id
from gateway.nodes.node_messages import OtherBuild, decode_order, encode_order
from tests.gateway.nodes.test_agent import ORDER


def test_order_is_read_by_the_build_that_gave_it() -> None:
    assert decode_order(encode_order(ORDER)) == ORDER


def test_order_of_another_build_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields may have other meanings there."""
    monkeypatch.setattr(node_messages, "build_id", lambda: "0.9+abc")
    order = encode_order(ORDER)
    monkeypatch.undo()
    with pytest.raises(OtherBuild, match=r"^0.9\+abc$"):
        decode_order(order)
    with pytest.raises(OtherBuild):
        decode_order(order.partition(b"\n")[2])
    assert build_id() != "0.9+abc"
