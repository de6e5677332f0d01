"""What tests of channels and streams share."""

import pytest

from backend.wire.tcp import acceptor, dial, handshake
from tests.backend.wire.tcp.pairs import WAIT_S


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handshake take as long as this machine may stand still: nobody calls again here."""
    for module in (acceptor, dial, handshake):
        monkeypatch.setattr(module, "HANDSHAKE_SECONDS", WAIT_S)
