"""The names of architectures agree with those that the families give themselves."""

from pathlib import Path

import pytest

import backend.config.families
from backend.config.architectures import GGUF_ARCHITECTURES, HF_ARCHITECTURES, load_family

NOT_FAMILIES = {"__init__", "delta_nets", "family", "names"}
FAMILIES = sorted(
    path.stem
    for path in Path(backend.config.families.__path__[0]).glob("*.py")
    if path.stem not in NOT_FAMILIES
)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_found_by_the_names_it_gives_itself(name: str) -> None:
    family = load_family(name)
    assert family.name == name
    assert {key for key, value in HF_ARCHITECTURES.items() if value == name} == set(
        family.huggingface
    )
    assert {key for key, value in GGUF_ARCHITECTURES.items() if value == name} == set(family.gguf)


def test_every_name_has_a_family() -> None:
    assert set(HF_ARCHITECTURES.values()) | set(GGUF_ARCHITECTURES.values()) == set(FAMILIES)
