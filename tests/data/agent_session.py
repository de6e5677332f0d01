"""A session of a coding agent as it is sent to POST /v1/messages: made up, the same in every run.

It has what such sessions have: a long system prompt that begins with a line for the bill, another
in each turn; tools; and turns in which the agent thinks, calls, and reads results, with a question
of its user now and then.
"""

import random
from collections.abc import Iterator
from typing import Any

NUM_TURNS = 12
# In these turns the user asks; in the others the agent goes on with what a tool gave it.
QUESTIONS = {0: "Why does the build fail?", 5: "Mend it, please.", 9: "Now write a test for it."}
_WORDS = (
    "the agent reads a file before it writes one and never guesses what tests say about paths "
    "commands results errors users plans edits lines when tools fail it looks again asks or stops"
).split()
_TOOL_NAMES = ("Read", "Write", "Edit", "Bash", "Grep", "Glob", "Task", "WebFetch")


def turns(num_system_words: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of each request that are a turn's: system, messages and tools."""
    dice = random.Random(0)
    instructions = _text(dice, num_system_words)
    tools = [_tool(name, dice) for name in _TOOL_NAMES]
    messages: list[dict[str, Any]] = []
    for turn in range(NUM_TURNS):
        messages.append({"role": "user", "content": _user_blocks(turn, dice)})
        yield {
            "system": [
                {"type": "text", "text": billing_line(turn)},
                {"type": "text", "text": "You are a coding agent."},
                {
                    "type": "text",
                    "text": instructions,
                    "cache_control": {"type": "ephemeral"},
                },
            ],
            "messages": list(messages),
            "tools": tools,
        }
        messages.append({"role": "assistant", "content": _assistant_blocks(turn, dice)})


def billing_line(turn: int) -> str:
    """Return the line whose checksum is another in each turn."""
    return f"x-anthropic-billing-header: cc_version=2.1.36; cc_entrypoint=cli; cch={turn:05x};"


def _user_blocks(turn: int, dice: random.Random) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if turn > 0:
        result = {"type": "tool_result", "tool_use_id": f"toolu_{turn - 1:02}"}
        blocks.append({**result, "content": [{"type": "text", "text": _text(dice, 60)}]})
    if turn in QUESTIONS:
        reminder = f"<system-reminder>\n{_text(dice, 20)}\n</system-reminder>\n"
        blocks += [{"type": "text", "text": text} for text in (reminder, QUESTIONS[turn])]
    return blocks


def _assistant_blocks(turn: int, dice: random.Random) -> list[dict[str, Any]]:
    name = dice.choice(_TOOL_NAMES)
    arguments = {"path": f"src/module_{turn}.py", "text": _text(dice, 12)}
    return [
        {"type": "thinking", "thinking": _text(dice, 30), "signature": "c2lnbmVk"},
        {"type": "text", "text": _text(dice, 8)},
        {"type": "tool_use", "id": f"toolu_{turn:02}", "name": name, "input": arguments},
    ]


def _tool(name: str, dice: random.Random) -> dict[str, Any]:
    properties = {field: {"type": "string", "description": _text(dice, 8)} for field in _FIELDS}
    schema = {"type": "object", "properties": properties, "required": ["path"]}
    return {"name": name, "description": _text(dice, 40), "input_schema": schema}


_FIELDS = ("path", "text")


def _text(dice: random.Random, num_words: int) -> str:
    return " ".join(dice.choice(_WORDS) for _ in range(num_words))
