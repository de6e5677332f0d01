"""Which notation a model has, and what is said of a file that means nothing."""

from pathlib import Path

import pytest

from backend.config.errors import ModelError
from gateway.notations.library import (
    CALL_NOTATIONS,
    REASONING_NOTATIONS,
    builtin,
    call_notation,
    load,
    reasoning_notation,
)

FOLDER = Path(__file__).parents[3] / "gateway" / "notations" / "builtin"
HERMES = '[[calls]]\ncall = "<tool_call>{object}</tool_call>"\n'


def test_every_file_has_a_name_and_every_name_a_file() -> None:
    names = {path.stem for path in FOLDER.glob("*.toml")}
    assert names == {*CALL_NOTATIONS, *REASONING_NOTATIONS}
    for name in names:
        load(FOLDER / f"{name}.toml", "--tool-notation")


def test_names_and_files_are_chosen_before_templates(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(HERMES)
    assert call_notation("glm", ["<tool_call>"], None) is builtin("glm")
    assert call_notation(str(file), [], None).calls[0].call == "<tool_call>{object}</tool_call>"
    assert reasoning_notation("none", ["<think>"], None) is None
    assert reasoning_notation("think-open", [], None) is builtin("think-open")


def test_templates_are_asked_in_their_order() -> None:
    assert call_notation("auto", ["x <tool_call>", "<|tool_call>call:"], None) is builtin("hermes")
    assert call_notation("auto", ["nothing"], None) is builtin("hermes")
    assert reasoning_notation("auto", ["nothing"], None) is None
    assert reasoning_notation("auto", ["split('</think>')"], None) is builtin("think")


def test_what_the_tokenizer_ships_goes_before_templates() -> None:
    shipped = builtin("gemma4")
    assert call_notation("auto", ["<tool_call>"], shipped) is shipped
    assert reasoning_notation("auto", ["<think>"], shipped) is shipped
    assert call_notation("hermes", [], shipped) is builtin("hermes")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[calls]\n", "is no TOML.*line 1"),
        ('\n[[calls]]\ncal = "x"\n', "line 3: .*unknown field `cal`"),
        (f'{HERMES}\n[[calls]]\ncall = 1\n', "line 5: 'call': expected `str`, got `int`"),
        (f'{HERMES}\n[[calls]]\ncall = "<a>"\n', "line 5: 'call' must have exactly one of"),
        (f'{HERMES}\n[[calls]]\ncall = "<a>{{nam}}{{object}}"\n', "line 5: .*unknown slot {nam}"),
        ('[[calls]]\ncall = "{object}"\n', "line 2: 'call' has no mark .*is_unmarked"),
        ('[[calls]]\ncall = "<a>{name}{parameters}</a>"\n', "'parameter' belongs to a call"),
        ('[[calls]]\ncall = "<a>{object}"\nsection = "x"\n', "line 3: 'section' must have {calls}"),
        ("[reasoning]\nopen = ''\nclose = 'b'\n", "line 2: 'open': expected `str` of length >= 1"),
        ("detect = [['a']]\n", r"the file has no \[\[calls\]\]"),
    ],
)  # fmt: skip
def test_file_that_means_nothing_is_told_by_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(ModelError, match=said):
        call_notation(str(file), [], None)


def test_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(ModelError, match=r"--tool-notation hermse: no such file.*\n.*hermes"):
        call_notation("hermse", [], None)
    with pytest.raises(ModelError, match="--reasoning-notation x"):
        reasoning_notation("x", [], None)
