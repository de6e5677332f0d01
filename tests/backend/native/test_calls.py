"""Both sides of a call lay it out alike."""

import ctypes
from typing import Any

import pytest

from backend.native import absence, calls, kernels, levels

needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)


def test_header_is_made_from_the_declarations() -> None:
    assert calls.HEADER.read_text() == calls.header(), "run python -m backend.native.calls"


def test_interface_number_changes_with_a_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    before = calls.interface()
    swapped = dict(reversed(calls.CALLS["Gemm"].items()))
    monkeypatch.setitem(calls.CALLS, "Gemm", swapped)
    assert calls.interface() != before


@pytest.mark.parametrize("name", calls.CALLS)
def test_fields_of_a_call_lie_eight_bytes_apart(name: str) -> None:
    struct: type[ctypes.Structure] = getattr(calls, name)
    offsets = [getattr(struct, field).offset for field in calls.CALLS[name]]
    assert offsets == list(range(0, ctypes.sizeof(struct), 8))


@needs_kernels
@pytest.mark.parametrize("call", [b"", calls.GateMul(), 5])
def test_object_that_is_no_such_call_is_refused(call: Any) -> None:
    with pytest.raises(TypeError):
        kernels.gemm(call)


@needs_kernels
def test_level_that_the_processor_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="no kernels of level 'avx1024'"):
        kernels.use("avx1024")
    kernels.use(levels()[0])
