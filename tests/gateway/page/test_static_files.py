"""What stands in the page's directory is what it loads, and is put into packages."""

import re
import tomllib
from pathlib import Path

from gateway.page.static_files import INDEX, static_files

ROOT = Path(__file__).parents[3]


def text_of(name: str) -> str:
    return static_files()[name].body.decode()


def loaded() -> set[str]:
    """Every file that is reached from the page, as its name."""
    found: set[str] = set()
    waiting = set(re.findall(r'(?:src|href)="page/([^"]+)"', text_of(INDEX)))
    while waiting:
        name = waiting.pop()
        found.add(name)
        if name.endswith(".js"):
            waiting |= set(re.findall(r'from "\./([^"]+)"', text_of(name))) - found
    return found


def test_each_file_is_loaded_and_each_import_is_there() -> None:
    assert loaded() == static_files().keys() - {INDEX}


def test_nothing_in_it_is_of_another_host_or_parses_text() -> None:
    for name, file in static_files().items():
        text = file.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), name
        parsers = (
            r"innerHTML|outerHTML|AdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
        )
        assert not re.search(parsers, text), name


def test_page_has_no_inline_script_or_style() -> None:
    """The policy would refuse them, and the page would be broken."""
    page = text_of(INDEX)
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_each_file_has_a_tag_of_its_own() -> None:
    files = static_files().values()
    assert len({file.etag for file in files}) == len(files)
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', file.etag) for file in files)


def test_every_file_is_put_into_packages() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    [pattern] = data["package-data"]["gateway.page"]
    packed = {path.name for path in (ROOT / "gateway/page").glob(pattern)}
    assert packed == static_files().keys()
