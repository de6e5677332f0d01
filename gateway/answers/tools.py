"""Grammars that make a model write calls of tools."""

import json
from collections.abc import Sequence
from typing import Any

OPENING, CLOSING = "<tool_call>", "</tool_call>"

# What may stand between two parts of arguments, as templates show it. Models that may write any
# amount of white space sometimes write nothing else.
_WHITESPACE = " "


def calls_grammar(functions: Sequence[tuple[str, dict[str, Any]]], *, allows_parallel: bool) -> str:
    """Return the Lark grammar of an answer that consists of calls of these functions.

    functions: names, and JSON schemas of their arguments. Whitespace is what templates show.
    """
    rules, bodies = [], []
    for number, (name, schema) in enumerate(functions):
        # Each schema is a document of its own, or its references would lead nowhere.
        own = {"type": "object", **schema, "x-guidance": {"whitespace_pattern": _WHITESPACE}}
        head = f'{{"name": {json.dumps(name)}, "arguments": '
        bodies.append(f'{json.dumps(head)} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: %json {json.dumps(own)}\n")
    start = 'call ("\\n" call)*' if allows_parallel else "call"
    return (
        f'start: {start}\ncall: "{OPENING}\\n" body "\\n{CLOSING}"\n'
        f"body: {' | '.join(bodies)}\n{''.join(rules)}"
    )
