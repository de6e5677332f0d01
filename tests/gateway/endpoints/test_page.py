"""GET / for browsers and for the others, and the files of the page."""

import re

import pytest

from tests.gateway.fakes import Exchange, FakePool, app_of

# As Chromium 156 and Firefox 145 send it, and as those do who only look whether somebody is there.
BROWSERS = [
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "text/html;q=0.5, */*",
    "TEXT/HTML",
]
OTHERS = [
    "",
    "*/*",
    "application/json",
    "text/*",
    "text/plain, text/html;q=0",
    "text/html; q=0.000",
]


async def get(path: str, method: str = "GET", **headers: str) -> Exchange:
    given = [(name.replace("_", "-"), value) for name, value in headers.items() if value]
    return await Exchange(app_of(FakePool()), method, path, b"", given).finished()


@pytest.mark.parametrize("accept", BROWSERS)
async def test_browser_gets_the_page(accept: str) -> None:
    exchange = await get("/", accept=accept)
    assert exchange.status == 200
    assert exchange.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<!doctype html>" in exchange.body


@pytest.mark.parametrize("accept", OTHERS)
async def test_others_get_a_line_of_text(accept: str) -> None:
    exchange = await get("/", accept=accept)
    assert (exchange.status, exchange.body) == (200, b"Unisono is running")
    assert exchange.headers["content-type"].startswith("text/plain")


async def test_root_says_that_it_depends_on_accept() -> None:
    for accept in (BROWSERS[0], ""):
        assert (await get("/", accept=accept)).headers["vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
async def test_policy_lets_nothing_in_from_elsewhere(path: str) -> None:
    headers = (await get(path, accept=BROWSERS[0])).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    sources = {
        source for name in policy if name.endswith("-src") for source in policy[name].split()
    }
    assert sources == {"'none'", "'self'"}
    assert (policy["frame-ancestors"], policy["trusted-types"]) == ("'none'", "'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("main.js", "text/javascript; charset=utf-8"),
        ("theme.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_file_is_known_by_its_tag(name: str, media_type: str) -> None:
    exchange = await get(f"/page/{name}")
    assert exchange.headers["content-type"] == media_type
    assert exchange.headers["cache-control"] == "no-cache"
    tag = exchange.headers["etag"]
    for known in (tag, f'"other", W/{tag}'):
        again = await get(f"/page/{name}", if_none_match=known)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == tag
    assert (await get(f"/page/{name}", if_none_match='"other"')).body == exchange.body


@pytest.mark.parametrize("name", ["nothing.js", "..%2fstatic_files.py", "static_files.py", ".", ""])
async def test_what_is_no_file_of_the_page_is_a_404(name: str) -> None:
    exchange = await get(f"/page/{name}")
    assert (exchange.status, exchange.error["code"]) == (404, "unknown_url")


async def test_docs_have_a_policy_that_names_their_style() -> None:
    exchange = await get("/docs")
    policy = exchange.headers["content-security-policy"]
    assert re.fullmatch(r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='", policy)
    assert not re.search(r"\sstyle=|<script", exchange.body.decode())
