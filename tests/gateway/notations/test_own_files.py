"""Whatever an operator's notation file says, it is told by line at the start, or it works."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.config.errors import ModelError
from gateway.notations.compiled import compiled
from gateway.notations.grammars import CallsGrammar
from gateway.notations.library import CALL_NOTATIONS, REASONING_NOTATIONS, load
from gateway.notations.parser import OutputParser
from gateway.notations.served import serve_notation
from tests.gateway.notations.test_library import FOLDER

NAMES = sorted({*CALL_NOTATIONS, *REASONING_NOTATIONS})
FRAGMENTS = (
    "{name}", "{arguments}", "{object}", "{parameters}", "{keywords}", "{calls}", "{key}",
    "{value}", "{string}", "{type}", "{index}", "{ignored}", "{x}", "{", "}", "[", "]", '"', "'",
    "\n", " ", "=", "true", "1", "[[calls]]\n", "[reasoning]\n", "call = ", "section = ", "(?P<",
    "is_unmarked = true\n", "parameter = ", "\\", "<a>", "é", "\x00", "#", "open = ",
    "[messages]\n",
)  # fmt: skip
EDITS = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 12), st.sampled_from(("", *FRAGMENTS))),
    min_size=1,
    max_size=4,
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
TEXT = (
    '<a>f{"a": 1}<tool_call>\n<function=f>\n<think>[f(a=1)]<|open|>{"name": "f", "arguments": {}}'
)


def edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    for position, length, fragment in edits:
        at = position % (len(text) + 1)
        text = text[:at] + fragment + text[at + length :]
    return text


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(NAMES), EDITS)
def test_any_file_is_refused_by_line_or_works(name: str, edits: list[tuple[int, int, str]]) -> None:
    text = edited((FOLDER / f"{name}.toml").read_text("utf-8"), edits)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.toml"
        path.write_text(text, "utf-8")
        try:
            notation = load(path, "--tool-notation")
        except ModelError as error:
            # TOML's own words say "at end of document" of what goes on to the end.
            assert re.search(r"line \d+|end of document", str(error)), error
            return
    form = compiled(notation, notation)
    served = serve_notation(form, {"<tool_call>": 7, "<think>": 8})
    parser = OutputParser(form, tools={"f": SCHEMA})
    for char in TEXT:
        parser.push(char)
    parser.flush()
    if form.has_calls:
        for is_demanded in (True, False):
            grammar = CallsGrammar(served, [("f", SCHEMA)], allows_parallel=True)
            grammar.demanded() if is_demanded else grammar.held()


def test_values_that_toml_nests_without_end_are_told(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    for value, said in (("[" * 5000, "nest too deep"), ("9" * 5000, "is no TOML")):
        path.write_text(f"id_length = {value}")
        with pytest.raises(ModelError, match=said):
            load(path, "--tool-notation")
