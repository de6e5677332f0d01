"""When the extension is used, and what is said where it is not."""

import runpy
import sys
from types import ModuleType
from typing import Any

import pytest

import backend.native
from backend.native.calls import interface

INTERFACE = interface()


class Built(ModuleType):
    """An extension as some build left it."""

    def __init__(self, level: str, interface: int | None) -> None:
        super().__init__("backend.native._kernels")
        self.levels = lambda: [level] if level else []
        self.used: list[str] = []
        self.use = self.used.append
        if interface is not None:
            self.interface = lambda: interface


def loaded(built: Built, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(sys.modules, "backend.native._kernels", built)
    return runpy.run_path(str(backend.native.__file__))


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        (Built("avx512_bf16", None), "other files"),
        (Built("avx512_bf16", INTERFACE - 1), "other files"),
    ],
)
def test_build_of_other_declarations_is_left_alone(
    built: Built, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a build older than the sources a rank died while it loaded, for want of a function."""
    found = loaded(built, monkeypatch)
    assert found["kernels"] is None and reason in found["absence"]


def test_build_that_fits_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    built = Built("avx512_bf16", INTERFACE)
    found = loaded(built, monkeypatch)
    assert found["kernels"] is built and not found["absence"]
    assert built.used == ["avx512_bf16"] and found["levels"]() == ["avx512_bf16"]
