"""What docstrings, comments and pages say of the house's own files and modules is true.

A path or a dotted name of ours that is mentioned must exist: readers follow it.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_README_BYTES = 10 * 1024
MAX_TEST_NAME_LENGTH = 60
ARTICLES = ("a", "an", "the")
PACKAGES = ("backend", "gateway", "tests", "deploy", "findings")
# Names that are files of others, of the user's or of a test.
FOREIGN = frozenset(
    "conftest.py keys.toml setup.py tuned.toml unisono.toml findings/NAME.sh".split()
)

# backend/wire/messages.py, tests/bench, gateway/README.md: a path from the root, or below a room.
PATH = re.compile(rf"(?<![\w./-])((?:{'|'.join(PACKAGES)})(?:/[\w-][\w.-]*)+)")
# backend.wire.messages, gateway.worker
DOTTED = re.compile(rf"(?<![\w./])((?:{'|'.join(PACKAGES[:3])})(?:\.[a-zA-Z_]\w*)+)")
# replicas.py, pool/replicas.py, attention.h: somewhere in the house.
FILE = re.compile(r"(?<![\w./-])((?:[\w-]+/)*[\w-]+\.(?:py|md|sh|toml|yaml|yml|c|h))\b(?!\.\w)")


@cache
def house() -> frozenset[str]:
    """Every file of ours, and every folder, as paths from the root."""
    files = {
        path.relative_to(ROOT)
        for top in (*PACKAGES, ".ci")
        for path in (ROOT / top).rglob("*")
        if "__pycache__" not in path.parts
    }
    files |= {path.relative_to(ROOT) for path in ROOT.iterdir() if path.is_file()}
    return frozenset(map(str, files | {parent for file in files for parent in file.parents}))


@cache
def endings() -> frozenset[str]:
    """Every way to name a file of the house by its last parts: replicas.py, pool/replicas.py."""
    return frozenset(
        "/".join(Path(path).parts[start:])
        for path in house()
        for start in range(len(Path(path).parts))
    )


def exists(name: str) -> bool:
    """Whether a mention is a file, a folder, or what such a file is built into or from."""
    name = name.rstrip(".")
    return name in house() or name in endings() or f"{name}.py" in house()


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def is_module_or_member(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or one of the names in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        base = "/".join(parts[:end])
        if f"{base}.py" in house():
            text = text_of(f"{base}.py")
            return end == len(parts) or re.search(rf"\b{parts[end]}\b", text) is not None
        if end > 1 and base in house():
            # A package: the rest must be a name in its __init__, the extension, or nothing.
            init = ROOT / base / "__init__.py"
            rest = parts[end:]
            known = text_of(str(init.relative_to(ROOT))) if init.is_file() else ""
            return not rest or rest[0] in known
    return False


def python_mentions(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a module."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and (text := ast.get_docstring(node)):
            yield text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def c_mentions(path: Path) -> Iterator[str]:
    """Yield the comments of a C file."""
    yield from re.findall(r"/\*.*?\*/|//[^\n]*", path.read_text(), re.DOTALL)


def sources(*endings: str) -> list[Path]:
    """Every file of ours with one of these endings."""
    return [
        ROOT / name
        for name in sorted(house())
        if name.endswith(endings) and (ROOT / name).is_file()
    ]


def stale(text: str) -> list[str]:
    """Return what a text names and the house does not have."""
    wrong = [name for name in PATH.findall(text) if name not in FOREIGN and not exists(name)]
    wrong += [name for name in DOTTED.findall(text) if not is_module_or_member(name)]
    wrong += [name for name in FILE.findall(text) if name not in FOREIGN and not exists(name)]
    return wrong


def all_stale(*endings: str, mentions: Callable[[Path], Iterator[str]]) -> dict[str, list[str]]:
    """Return, for each file that has any, the mentions that are stale."""
    suspects = [path for path in sources(*endings) if stale(path.read_text())]
    wrong = {
        str(path.relative_to(ROOT)): [name for text in mentions(path) for name in stale(text)]
        for path in suspects
    }
    return {path: names for path, names in wrong.items() if names}


def test_mentions_that_are_wrong_are_found() -> None:
    assert stale("see gateway/pool/replicas.py, replicas.py, backend.step.StepPlan") == []
    assert stale("see gateway/pool/roster.py") == ["gateway/pool/roster.py"] * 2
    assert stale("`backend.step.NoPlan` and backend.nowhere.at_all") == [
        "backend.step.NoPlan",
        "backend.nowhere.at_all",
    ]
    assert stale("as roster.py says") == ["roster.py"]


def test_python_files_mention_what_exists() -> None:
    """Most have nothing that could be wrong anywhere, and are not parsed."""
    assert all_stale(".py", mentions=python_mentions) == {}


def test_c_files_mention_what_exists() -> None:
    assert all_stale(".c", ".h", ".inc", mentions=c_mentions) == {}


def test_pages_mention_what_exists() -> None:
    wrong = all_stale(".md", mentions=lambda path: iter([path.read_text()]))
    for path in sources(".md"):
        links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        if dead := [link for link in links if not (path.parent / link).exists()]:
            wrong.setdefault(str(path.relative_to(ROOT)), []).extend(dead)
    assert wrong == {}


def test_first_page_fits() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= MAX_README_BYTES


def test_names_of_tests_are_rules() -> None:
    """No article, at most 60 characters: they are read in lists."""
    names = [
        (path.relative_to(ROOT), name)
        for path in sources(".py")
        if path.name.startswith("test_")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    ]
    assert [pair for pair in names if len(pair[1]) > MAX_TEST_NAME_LENGTH] == []
    assert [pair for pair in names if pair[1].split("_")[1] in ARTICLES] == []
