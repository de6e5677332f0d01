"""A server with a certificate of its own: who can talk to it, and how the next one is taken."""

import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.server import Server, refused_start, wait_until

pytestmark = pytest.mark.e2e


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *files, *subject], check=True, capture_output=True)
    return certificate, key


def served_certificate(server: Server, **options: ssl.TLSVersion) -> tuple[bytes, str | None]:
    """The certificate in DER and the protocol chosen by ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in options.items():
        setattr(context, name, value)
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        with context.wrap_socket(plain) as sock:
            return sock.getpeercert(True) or b"", sock.selected_alpn_protocol()


def trusting_client(server: Server, certificate: Path) -> openai.OpenAI:
    trust = ssl.create_default_context(cafile=str(certificate))
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        http_client=openai.DefaultHttpxClient(verify=trust),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificate and the key lie that the server is told of."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(tiny_model: Path, home: Path) -> Iterator[Server]:
    certificate, key = make_certificate(home, "first")
    with Server(tiny_model, "--tls-cert", certificate, "--tls-key", key) as server:
        yield server


def test_tls_speaks_http_1_1_alone(server: Server) -> None:
    assert server.url.startswith("https://")
    assert served_certificate(server)[1] == "http/1.1"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_before_1_2_is_refused(server: Server) -> None:
    with pytest.raises(ssl.SSLError):
        served_certificate(server, maximum_version=ssl.TLSVersion.TLSv1_1)


def test_next_certificate_is_taken_under_a_stream(server: Server, home: Path) -> None:
    with trusting_client(server, home / "cert.pem") as client:
        stream = client.completions.create(
            model="tiny",
            prompt="Hello",
            max_tokens=500,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(stream)
        first, _ = served_certificate(server)
        make_certificate(home, "second")
        server.send(signal.SIGHUP)
        wait_until(lambda: served_certificate(server)[0] != first, 60, "the second is served")
        assert list(stream)[-1].choices[0].finish_reason == "length"


def test_broken_certificate_changes_nothing_but_the_log(server: Server, home: Path) -> None:
    served, _ = served_certificate(server)
    (home / "cert.pem").write_text("broken")
    server.send(signal.SIGHUP)
    wait_until(lambda: "certificate not read" in server.stderr, 60, "it is told")
    assert served_certificate(server)[0] == served


def test_unusable_certificate_is_told_before_anything_starts(
    tiny_model: Path, tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path, "first")
    (tmp_path / "other").mkdir()
    _, other = make_certificate(tmp_path / "other", "other")
    key.write_text("no key")
    for arguments, words in (
        (("--tls-cert", certificate, "--tls-key", key), "cannot be used for TLS"),
        (("--tls-cert", certificate), "--tls-key"),
        (("--tls-cert", certificate, "--tls-key", other), "the key is not the certificate's"),
        (
            ("--tls-cert", tmp_path / "none", "--tls-key", key),
            "none cannot be used for TLS: No such",
        ),
    ):
        assert words in refused_start(tiny_model, *arguments)
