"""Fields of a request that are unknown here: refused with a suggestion, or reported in a header.

Which of the two is a setting (strict), except for fields that change what a request means. Looks at
top-level names only. Called for every request that has a body.
"""

import difflib
import re
from collections.abc import Collection, Iterable

import msgspec

from gateway.errors import ApiError
from gateway.requests.foreign_fields import SYNONYMS, check_foreign_field, check_nested_fields

HEADER = "x-unisono-ignored-fields"
MAX_REPORTED_FIELDS = 16
MAX_NAME_LENGTH = 96
NOT_A_NAME = re.compile(r"[^A-Za-z0-9._$\[\]-]")

# Known, since OpenAI's client must be able to send it, but nothing is searched.
_UNHEEDED = "web_search_options"

_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])


def unknown_fields(
    body: bytes, known: Collection[str], *, is_strict: bool, is_answered: bool = False
) -> list[str]:
    """Return the names in a JSON object, already known to be one, that are not heeded: mostly
    those that are not `known`.

    is_answered: the request is for text.
    Raises ApiError 400 for the first of them if is_strict, else for one without which the request
    would mean something else.
    """
    fields = _keys.decode(body)
    unknown = [name for name in fields if name not in known]
    if is_strict and unknown:
        name = _shown(unknown[0])
        raise ApiError(
            400,
            f"Unknown parameter: '{name}'{_suggestion(name, known)}",
            param=name,
            code="unknown_parameter",
        )
    for name in unknown:
        check_foreign_field(name, fields, known, is_answered=is_answered)
    check_nested_fields(fields, known)
    if _UNHEEDED in known and bytes(fields.get(_UNHEEDED, b"null")) != b"null":
        unknown.append(_UNHEEDED)
    return unknown


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Return the header that reports ignored fields; none if there are none."""
    return names_header(HEADER, names)


def names_header(header: str, names: Iterable[str]) -> dict[str, str]:
    """Return a header that lists names; none if there are none.

    The names are the client's: whatever is no plain name in them is replaced, and both their length
    and their number are bounded.
    """
    shown = [_shown(name) for name in names]
    if not shown:
        return {}
    more = (
        [f"and {len(shown) - MAX_REPORTED_FIELDS} more"] if len(shown) > MAX_REPORTED_FIELDS else []
    )
    return {header: ", ".join(shown[:MAX_REPORTED_FIELDS] + more)}


def _shown(name: str) -> str:
    """Return a name fit for a header. Of a long path the end says more than the beginning."""
    if len(name) > MAX_NAME_LENGTH and "." in name:
        name = "..." + name[3 - MAX_NAME_LENGTH :]
    return NOT_A_NAME.sub("_", name[:MAX_NAME_LENGTH]) or "_"


def _suggestion(name: str, known: Collection[str]) -> str:
    close = [SYNONYMS[name]] if name in SYNONYMS else []
    close += difflib.get_close_matches(name, known, n=1)
    meant = next((candidate for candidate in close if candidate in known), None)
    return f"; did you mean {meant}?" if meant else "."
