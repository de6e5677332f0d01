"""The C files include each other, and call each other, in one direction."""

import re
from pathlib import Path

import backend.native
from tests.test_imports import circles

SOURCES = Path(backend.native.__file__).parent
# A function that other units see.
DEFINITION = r"^(?:int|void|int64_t|const \w+ \*)\s*(\w+)\([^;{]*\)\n\{"


def units() -> dict[str, str]:
    """Unit -> its text, comments left out; a unit is a .c file with the header of its name."""
    texts: dict[str, str] = {}
    for path in sorted(SOURCES.glob("*.[ch]")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        texts[path.stem] = texts.get(path.stem, "") + text
    return texts


def test_units_include_each_other_in_no_circle() -> None:
    included = {
        unit: set(re.findall(r'#include "(\w+)\.h"', text)) - {unit}
        for unit, text in units().items()
    }
    assert {"gemm_small_m", "gemm_large_m", "epilogue"} <= included["dispatch"]
    assert circles(included) == []


def test_units_call_each_other_in_no_circle() -> None:
    """A function that is not static belongs to the unit that defines it."""
    texts = units()
    owner = {
        name: unit
        for unit, text in texts.items()
        for name in re.findall(
            r"^(?:int|void|int64_t|const \w+ \*)\s*(\w+)\([^;{]*\)\n\{", text, re.M
        )
    }
    assert owner["gemm_small_m"] == "gemm_small_m" and owner["apply_epilogue"] == "epilogue"
    called = {
        unit: {owner[name] for name in re.findall(r"\b(\w+)\b", text) if name in owner} - {unit}
        for unit, text in texts.items()
    }
    assert circles(called) == []
