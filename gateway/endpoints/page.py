"""GET / and /page/{name}: the page on which a person tries the model, and its files.

Who does not ask for HTML by name gets a line of text at /: Ollama's clients and Claude Code only
look whether somebody is there. The page holds nothing of this server, so it needs no key; what it
asks for does.
"""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.errors import ApiError
from gateway.page.static_files import INDEX, StaticFile, static_files

# Scripts and styles are the page's own files, requests go to this server alone, and no text can
# become code: browsers that know Trusted Types refuse what would parse a string as HTML.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
# Files keep their names from release to release: browsers ask each time whether they are the same.
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


async def root(http_request: Request) -> Response:
    """Return the page to browsers, and to all others a line that says that there is a server."""
    if not _wants_html(http_request.headers.get("accept", "")):
        return PlainTextResponse("Unisono is running", headers={"vary": "Accept"})
    return _answer(http_request, static_files()[INDEX], {"vary": "Accept"})


async def page_file(http_request: Request) -> Response:
    """Return one file of the page."""
    file = static_files().get(http_request.path_params["name"])
    if file is None:
        message = f"Unknown URL: {http_request.method} {http_request.scope['path']}."
        raise ApiError(404, message, code="unknown_url")
    return _answer(http_request, file, {})


def _answer(http_request: Request, file: StaticFile, more: dict[str, str]) -> Response:
    headers = {**_HEADERS, **more, "etag": file.etag}
    if file.etag in _tags(http_request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers={**headers, "content-type": file.media_type})


def _tags(if_none_match: str) -> set[str]:
    """Return the tags that a client has; a proxy may have made them weak."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


def _wants_html(accept: str) -> bool:
    """Whether text/html is named, and not to say that it is unwelcome (q=0)."""
    for choice in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in choice.split(";"))
        if media_type == "text/html":
            quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
            return quality.strip("0.") != ""
    return False
