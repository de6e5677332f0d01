"""Files are left out of a stage only where none of their tests is selected."""

from pathlib import Path

import pytest

from tests.stages import has_candidates, possible_marks

PLAIN = "not slow and not gpu and not e2e and not numerics"


def test_marks_of_some_tests_are_possible(tmp_path: Path) -> None:
    path = tmp_path / "test_some.py"
    path.write_text("@pytest.mark.slow\ndef test_it() -> None: ...\n")
    assert possible_marks(path) == {frozenset(), frozenset({"slow"})}
    assert has_candidates(path, PLAIN)
    assert has_candidates(path, "slow and not e2e")
    assert not has_candidates(path, "e2e")


def test_pairwise_tests_may_have_slow_cases(tmp_path: Path) -> None:
    path = tmp_path / "test_pairs.py"
    path.write_text("@pytest.mark.pairwise\ndef test_it() -> None: ...\n")
    assert possible_marks(path) == {frozenset(), frozenset({"slow"})}


def test_marks_of_a_whole_file_are_certain(tmp_path: Path) -> None:
    path = tmp_path / "test_all.py"
    path.write_text(
        "pytestmark = [\n    pytest.mark.e2e,\n    pytest.mark.skipif(True, reason=''),\n]\n"
        "@pytest.mark.slow\ndef test_it() -> None: ...\n"
    )
    assert possible_marks(path) == {frozenset({"e2e"}), frozenset({"e2e", "slow"})}
    assert not has_candidates(path, PLAIN)
    assert has_candidates(path, "e2e and not slow")


def test_folder_marks_what_stands_in_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("pytestmark = pytest.mark.numerics\n")
    path = tmp_path / "test_numbers.py"
    path.write_text("def test_it() -> None: ...\n")
    assert possible_marks(path) == {frozenset({"numerics"})}
    assert has_candidates(tmp_path, "numerics")
    assert not has_candidates(tmp_path, PLAIN)


@pytest.mark.parametrize("expression", ["", PLAIN, "numerics", "e2e", "slow"])
def test_file_without_marks_is_plain(tmp_path: Path, expression: str) -> None:
    path = tmp_path / "test_plain.py"
    path.write_text("def test_it() -> None: ...\n")
    assert has_candidates(path, expression) == (expression in ("", PLAIN))
