"""Whole numbers that are written with a fraction: 16.0 where an integer is wanted.

JSON knows one kind of number, and some languages write every one of them as a decimal; OpenAI's
servers and vLLM take them. msgspec's own leniency would take "16" and true as well. Where a body
may hold anything (a JSON schema, say) its numbers stay as they were written. Called by body.py
for bodies that a strict decoder has refused.
"""

from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

# Beyond this not every integer is a float: which one was meant cannot be told.
MAX_EXACT = 2.0**53


def with_whole_numbers(body: bytes, kind: Any) -> bytes:
    """Return valid JSON with every whole decimal as an integer where type `kind` wants one."""
    return msgspec.json.encode(_whole(msgspec.json.decode(body), _info(kind)))


@cache
def _info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _whole(value: Any, kind: inspect.Type) -> Any:
    """Return a value with whole decimals as integers; lists and objects are changed in place."""
    kinds = _alternatives(kind)
    if isinstance(value, float):
        is_integer_wanted = any(isinstance(each, inspect.IntType) for each in kinds)
        is_decimal_wanted = any(isinstance(each, inspect.FloatType) for each in kinds)
        if is_integer_wanted and not is_decimal_wanted and abs(value) <= MAX_EXACT:
            return int(value) if value.is_integer() else value
    elif isinstance(value, list):
        for each in kinds:
            if isinstance(each, inspect.ListType):
                value[:] = [_whole(item, each.item_type) for item in value]
    elif isinstance(value, dict):
        for each in kinds:
            if isinstance(each, inspect.DictType):
                value |= {key: _whole(item, each.value_type) for key, item in value.items()}
            elif isinstance(each, inspect.StructType):
                fields = {field.encode_name: field.type for field in each.fields}
                known = value.keys() & fields.keys()
                value |= {name: _whole(value[name], fields[name]) for name in known}
    return value


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    """Return the types that a union is of, one for any other."""
    if isinstance(kind, inspect.Metadata):
        return _alternatives(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [each for part in kind.types for each in _alternatives(part)]
    return [kind]
