"""A hash of the layout of every message, so that two versions never talk past each other."""

import functools
import hashlib
from typing import Any

import msgspec

from backend.wire.messages import Reply, Request


@functools.cache
def schema_hash() -> bytes:
    """Return 16 bytes that change with any field, type, range or default of any message.

    What is only said about them (docstrings) does not count.
    """
    schemas, components = msgspec.json.schema_components((Request, Reply), ref_template="{name}")
    layout = msgspec.json.encode([_layout(schemas), _layout(components)], order="sorted")
    return hashlib.sha256(layout).digest()[:16]


def _layout(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _layout(value) for key, value in schema.items() if key != "description"}
    return [_layout(each) for each in schema] if isinstance(schema, list | tuple) else schema
