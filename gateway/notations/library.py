"""The notations that come with the server, those in files, and which one a model's template has.

Owns names, the order in which templates are tried, and what is said of a file that means nothing.
Called by the supervisor, so that a bad file ends the start, and by every worker.
"""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec

from backend.config.errors import ModelError
from gateway.notations.compiled import compiled
from gateway.notations.forms import FormError
from gateway.notations.notation import Notation

AUTO, NONE = "auto", "none"
# The first whose texts a template has is the one: those with rarer marks go first.
CALL_NOTATIONS = (
    "muse", "harmony", "gemma4", "kimi-k3", "kimi-k2", "minimax-m3", "minimax-m2", "seed-oss",
    "hunyuan", "solar", "command-a", "command-r", "apertus", "gigachat3.1", "gigachat3",
    "functionary-v3.1", "functionary-v3.2", "deepseek-v3.2", "deepseek-v4", "nemotron-nano-v2",
    "minimax-m1", "apriel", "lfm2", "minicpm5", "qwen3-coder", "glm", "deepseek-r1",
    "deepseek-v3.1", "mistral", "mistral-array", "granite", "phi-4", "hermes",
    "phi-4-mini", "pythonic", "llama3-json",
)  # fmt: skip
REASONING_NOTATIONS = (
    "muse", "harmony", "gemma4", "kimi-k3", "minimax-m3", "mistral-think", "granite", "command-a",
    "apertus", "seed-oss", "hunyuan", "solar", "apriel", "think", "think-open",
)  # fmt: skip
# What most fine-tunes have learnt, whatever their template says.
DEFAULT_CALLS = "hermes"

_FOLDER = Path(__file__).with_name("builtin")
_FIELD = re.compile(r"\$((?:\.\w+|\[\d+\]|\[\.\.\.\])*)")


@cache
def builtin(name: str) -> Notation:
    """Return a notation that comes with the server."""
    return msgspec.convert(tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8")), Notation)


def call_notation(choice: str, templates: Sequence[str], shipped: Notation | None) -> Notation:
    """Return how the model writes calls.

    choice: `auto`, a name or a file. templates: the model's chat templates, the one for tools
    first. shipped: what the tokenizer's files say. Raises ModelError.
    """
    if choice != AUTO:
        return _chosen(choice, "--tool-notation", CALL_NOTATIONS)
    if shipped is not None and shipped.calls:
        return shipped
    for source in templates:
        for name in CALL_NOTATIONS:
            if _has(source, builtin(name).detect):
                return builtin(name)
    return builtin(DEFAULT_CALLS)


def reasoning_notation(
    choice: str, templates: Sequence[str], shipped: Notation | None
) -> Notation | None:
    """Return how the model writes thoughts; None where it has none, or they stay in the text.

    See call_notation(). Raises ModelError.
    """
    if choice == NONE:
        return None
    if choice != AUTO:
        return _chosen(choice, "--reasoning-notation", REASONING_NOTATIONS)
    if shipped is not None and shipped.reasoning is not None:
        return shipped
    for source in templates:
        for name in REASONING_NOTATIONS:
            if _has(source, builtin(name).detect_reasoning):
                return builtin(name)
    return None


def _has(source: str, rows: tuple[tuple[str, ...], ...]) -> bool:
    return any(all(text in source for text in row) for row in rows)


def _chosen(choice: str, option: str, names: tuple[str, ...]) -> Notation:
    if choice in names:
        return builtin(choice)
    path = Path(choice)
    if not path.is_file():
        raise ModelError(
            f"{option} {choice}: no such file, and no notation of that name.\n"
            f"Give a file, {AUTO}, or one of: {', '.join(names)}."
        )
    notation = load(path, option)
    has_part = notation.calls if option == "--tool-notation" else notation.reasoning
    if not has_part and notation.messages is None:
        part = "[[calls]]" if option == "--tool-notation" else "[reasoning]"
        raise ModelError(f"{option} {choice}: the file has no {part}")
    return notation


def load(path: Path, option: str) -> Notation:
    """Return the notation of a file. Raises ModelError, which names the line."""
    where = f"{option} {path}"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ModelError(f"{where}: is not UTF-8 text: {error}") from None
    try:
        notation = msgspec.convert(tomllib.loads(text), Notation)
    except msgspec.ValidationError as error:
        message, line = _located(str(error), text)
        raise ModelError(f"{where}, line {line}: {message}") from None
    except RecursionError:
        raise ModelError(f"{where}: its values nest too deep, a notation's two levels") from None
    except ValueError as error:  # TOMLDecodeError, and numbers and times that Python does not take
        raise ModelError(f"{where}: is no TOML: {error}") from None
    for number, form in enumerate(notation.calls):
        _check(Notation(calls=(form,)), text, where, number)
    _check(msgspec.structs.replace(notation, calls=()), text, where, 0)
    return notation


def _check(notation: Notation, text: str, where: str, number: int) -> None:
    try:
        compiled(notation, notation)
    except FormError as error:
        line = _line_of(error.field, text, number)
        raise ModelError(f"{where}, line {line}: '{error.field}' {error}") from None


def _located(message: str, text: str) -> tuple[str, int]:
    """Return what a validator says, in our words, and the line that it means."""
    said, _, path = message.partition(" - at `")
    fields = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    names = [name for name, _ in fields if name]
    unknown = re.search(r"unknown field `(\w+)`", said)
    field = unknown[1] if unknown else (names[-1] if names else "")
    number = next((int(index) for _, index in fields if index), 0)
    shown = said[:1].lower() + said[1:]
    return (f"'{field}': {shown}" if field and not unknown else shown), _line_of(
        field, text, number
    )


def _line_of(field: str, text: str, number: int) -> int:
    """Return the line of a field, of the table of calls of that number where it is in several."""
    lines = text.splitlines()
    tables = [n for n, line in enumerate(lines) if line.strip() == "[[calls]]"]
    start = tables[number] if number < len(tables) else 0
    pattern = re.compile(rf"\s*\[*{re.escape(field)}\b")
    found = [n for n, line in enumerate(lines) if pattern.match(line)]
    return 1 + next((n for n in found if n >= start), found[0] if found else start)
