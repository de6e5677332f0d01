"""Which pages may call, and by which names, where no key tells who asks."""

import socket
from typing import Any

import pytest

from gateway.errors import ApiError
from gateway.security.origins import Origins

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"


def scope_of(host: str = "", origin: str = "", server: str = HERE) -> dict[str, Any]:
    given = {"host": host, "origin": origin}
    headers = [(name.encode(), value.encode()) for name, value in given.items() if value]
    return {"headers": headers, "server": (server, 8000)}


def fault(origins: Origins, *where: str) -> str | None:
    try:
        origins.check(scope_of(*where))
    except ApiError as error:
        assert error.status == 403 and "--" in error.message
        return error.code
    return None


LOCAL = "localhost LOCALHOST:8000 127.0.0.1:8000 127.1.2.3 [::1]:8000 app.localhost 192.168.0.7"
FOREIGN = "evil.example evil.example:8000 localhost.evil.example xlocalhost 127.0.0.1.nip.io"


@pytest.mark.parametrize("host", LOCAL.split())
def test_local_names_and_addresses_are_taken_over_loopback(host: str) -> None:
    assert fault(Origins(), host) is None


def test_host_without_a_name_is_no_browsers() -> None:
    assert fault(Origins()) is None


def test_this_machine_may_be_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Workstation")
    assert fault(Origins(), "workstation:8000") is None


@pytest.mark.parametrize(
    "host",
    "evil.example evil.example:8000 localhost.evil.example xlocalhost 127.0.0.1.nip.io".split(),
)
def test_name_that_was_pointed_at_loopback_is_refused(host: str) -> None:
    assert fault(Origins(), host) == "host_not_allowed"
    assert fault(Origins(), host, "", ELSEWHERE) is None
    assert fault(Origins(hosts=["*"]), host) is None


def test_named_hosts_are_the_only_names_wherever_it_is_called() -> None:
    origins = Origins(hosts=["Api.example.com"])
    for server in (HERE, ELSEWHERE):
        assert fault(origins, "api.example.com:443", "", server) is None
        assert fault(origins, "127.0.0.1:8000", "", server) is None
        assert fault(origins, "evil.example", "", server) == "host_not_allowed"


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "http://127.0.0.1:5173", "https://[::1]", "http://a.localhost"],
)
def test_pages_of_this_machine_may_call_over_loopback_only(origin: str) -> None:
    assert fault(Origins(), "localhost:8000", origin) is None
    assert fault(Origins(), "192.0.2.1:8000", origin, ELSEWHERE) == "origin_not_allowed"
    assert fault(Origins(["none"]), "localhost:8000", origin) == "origin_not_allowed"
    assert fault(Origins(["https://a.b"]), "localhost:8000", origin) == "origin_not_allowed"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "file://",
        "http://localhost.evil.example",
        "chrome-extension://a",
    ],
)
def test_other_pages_may_not_call_unless_named(origin: str) -> None:
    assert fault(Origins(), "localhost:8000", origin) == "origin_not_allowed"
    assert fault(Origins(["*"]), "localhost:8000", origin) is None
    assert fault(Origins([origin]), "localhost:8000", origin) is None


def test_own_origin_may_always_call() -> None:
    where = ("api.example.com", "https://API.example.com", ELSEWHERE)
    assert fault(Origins(), *where) is None
    assert fault(Origins(["none"]), *where) is None
    assert fault(Origins(), "api.example.com", "https://api.example.com:1", ELSEWHERE) is not None
    assert fault(Origins(), "", "://", ELSEWHERE) == "origin_not_allowed"


def test_star_stands_for_a_part_of_an_origin() -> None:
    origins = Origins(["https://*.example.com", "http://localhost:*"])
    assert fault(origins, "localhost", "https://a.b.example.com") is None
    assert fault(origins, "localhost", "http://localhost:1") is None
    for origin in ("https://example.com", "https://example.com.evil", "http://a.example.com"):
        assert fault(origins, "localhost", origin) == "origin_not_allowed"


def test_second_origin_makes_none() -> None:
    scope = scope_of("localhost", "http://localhost")
    scope["headers"].append((b"origin", b"https://evil.example"))
    with pytest.raises(ApiError):
        Origins(["http://localhost"]).check(scope)
