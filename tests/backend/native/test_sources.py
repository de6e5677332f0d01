"""The C files include each other, and call each other, in one direction."""

import re
import tomllib
from pathlib import Path

import backend.native
from tests.test_imports import circles

SOURCES = Path(backend.native.__file__).parent
# A function that other units see; one that is compiled for each level is named by LEVEL(name).
DEFINITION = r"^(?:int|void|int64_t|const \w+ \*)\s*(?:LEVEL\()?(\w+)\)?\([^;{]*\)\n\{"


def unit_of(path: Path) -> str:
    """The unit of a file: a .c file, or the .inc of kernels/, with the header of its name."""
    name = path.relative_to(SOURCES).with_suffix("").as_posix()
    return name.removeprefix("kernels/")


def files() -> dict[Path, str]:
    """Each file's text, comments left out."""
    paths = sorted(path for path in SOURCES.rglob("*") if path.suffix in (".c", ".h", ".inc"))
    return {path: re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL) for path in paths}


def units() -> dict[str, str]:
    texts: dict[str, str] = {}
    for path, text in files().items():
        texts[unit_of(path)] = texts.get(unit_of(path), "") + text
    return texts


def test_units_include_each_other_in_no_circle() -> None:
    included: dict[str, set[str]] = {unit: set() for unit in units()}
    for path, text in files().items():
        for name in re.findall(r'#include "(.+)"', text):
            included[unit_of(path)].add(unit_of((path.parent / name).resolve()))
    for unit, others in included.items():
        others.discard(unit)
    assert {"attention", "simd/avx2", "levels/levels"} <= included["levels/avx2"]
    assert circles(included) == []


def test_units_call_each_other_in_no_circle() -> None:
    """A function that is not static belongs to the unit that defines it."""
    texts = units()
    owner = {
        name: unit for unit, text in texts.items() for name in re.findall(DEFINITION, text, re.M)
    }
    assert owner["parallel_for"] == "threads" and owner["attention"] == "attention"
    called = {
        unit: {owner[name] for name in re.findall(r"\b(\w+)\(", text) if name in owner} - {unit}
        for unit, text in texts.items()
    }
    assert "threads" in called["attention"]
    assert circles(called) == []


def test_build_has_every_source() -> None:
    """A file that pyproject.toml does not name is not compiled, or not compiled again."""
    with open(SOURCES.parents[1] / "pyproject.toml", "rb") as file:
        (module,) = tomllib.load(file)["tool"]["setuptools"]["ext-modules"]
    named = sorted(module["sources"] + module["depends"])
    assert named == sorted(path.relative_to(SOURCES.parents[1]).as_posix() for path in files())
