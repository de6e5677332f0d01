"""Where groups listen, and what is refused before anything starts."""

import socket
from pathlib import Path

import pytest

from backend.config.errors import ModelError
from backend.wire.tcp.encryption import fingerprint, self_signed_pair
from gateway.settings import ServerSettings
from gateway.supervision.listening import GroupListening, ListeningError


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_bytes(b"  sixteen bytes, at least\n")
    return file


def test_nobody_listens_unless_it_is_wanted() -> None:
    assert GroupListening(ServerSettings()).open(0, 1) is None


def test_own_workers_are_told_a_port_and_a_secret_of_the_moment() -> None:
    listenings = [GroupListening(ServerSettings(group_wire="tcp")).open(3, 7) for _ in range(2)]
    secrets = set()
    for listening in listenings:
        assert listening is not None and listening.address is not None
        with listening.listener:
            assert listening.listener.getsockname() == ("127.0.0.1", listening.address.port)
        assert listening.address.incarnation == listening.message.incarnation == 7
        assert listening.address.secret == listening.message.secret
        secrets.add(listening.message.secret)
    assert len(secrets) == 2


def test_groups_listen_one_port_after_the_other(secret: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ServerSettings(group_port=port, group_secret=str(secret))
        listening = GroupListening(server)
        with pytest.raises(ListeningError, match=r"group 0 cannot listen at 127\.0\.0\.1"):
            listening.check(1)
        assert listening.open(0, 1) is None, "the server goes on without"
    opened = listening.open(0, 1)
    assert opened is not None and opened.address is None, "own workers share memory"
    assert opened.message.secret == b"sixteen bytes, at least"
    opened.listener.close()


def test_groups_elsewhere_have_the_same_secret_and_ports(secret: Path) -> None:
    listening = GroupListening(ServerSettings(group_port=7000, group_secret=str(secret)))
    message, port = listening.terms(3, 9)
    assert (message.secret, message.incarnation, port) == (b"sixteen bytes, at least", 9, 7003)
    address = listening.address("10.0.0.2", port, 9)
    assert (address.host, address.port, address.secret) == ("10.0.0.2", 7003, message.secret)
    message, port = GroupListening(ServerSettings()).terms(3, 9)
    assert port == 0 and len(message.secret) == 32, "any port, and a secret of the moment"


def test_useless_secrets_are_refused(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("too short\n")
    for file, words in ((short, "has 9 bytes"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ModelError, match=words):
            GroupListening(ServerSettings(group_port=1, group_secret=str(file)))
    with pytest.raises(ModelError, match="--group-secret FILE"):
        GroupListening(ServerSettings(group_port=1))


def test_certificate_is_checked_and_pinned_by_own_workers(tmp_path: Path) -> None:
    certificate, key = self_signed_pair()
    files = tmp_path / "certificate", tmp_path / "key"
    files[0].write_text(certificate)
    files[1].write_text(key)
    names = str(files[0]), str(files[1])
    both = ServerSettings(group_wire="tcp", group_tls_cert=names[0], group_tls_key=names[1])
    listening = GroupListening(both).open(0, 1)
    assert listening is not None and listening.address is not None
    listening.listener.close()
    assert listening.address.fingerprint == fingerprint(certificate)
    assert (listening.message.certificate, listening.message.key) == (certificate, key)
    assert key not in repr(listening) and "PRIVATE" not in repr(listening.message)
    with pytest.raises(ListeningError, match="needs both"):
        GroupListening(ServerSettings(group_tls_cert=names[0]))
    with pytest.raises(ListeningError, match="of no use for TLS"):
        GroupListening(ServerSettings(group_tls_cert=names[0], group_tls_key=names[0]))


def test_certificate_is_read_again_and_the_last_good_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = tmp_path / "certificate", tmp_path / "key"
    first, second = self_signed_pair(), self_signed_pair()

    def write(certificate: str, key: str) -> None:
        files[0].write_text(certificate)
        files[1].write_text(key)

    write(*first)
    listening = GroupListening(
        ServerSettings(group_wire="tcp", group_tls_cert=str(files[0]), group_tls_key=str(files[1]))
    )
    write(second[0], first[1])
    assert listening.reread() is None
    assert "of no use for TLS" in caplog.text and "the last certificate" in caplog.text
    assert listening.terms(0, 1)[0].certificate == first[0]
    write(*second)
    assert listening.reread() == second
    assert listening.terms(0, 1)[0].certificate == second[0]
    assert listening.address("here", 1, 1).fingerprint == fingerprint(second[0])
    assert GroupListening(ServerSettings(group_wire="tcp")).reread() is None
