"""Functions that the model learns of within the conversation, not at the head of the prompt.

So the head of the prompt stays as it was, and what was read of it is read no second time. Must not
know dialects, templates or how calls are written.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(order="deterministic").encode


def told(functions: Iterable[tuple[str, str | None, dict[str, Any] | None]]) -> str:
    """Return what the model reads of functions, as Claude Code describes it.

    functions: name, description and schema of the arguments of each.
    """
    lines = []
    for name, description, schema in functions:
        function: dict[str, Any] = {"name": name, "parameters": schema or {}}
        if description:
            function["description"] = description
        lines.append(f"<function>{_encode(function).decode()}</function>")
    return "\n".join(["<functions>", *lines, "</functions>"])
