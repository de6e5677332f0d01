"""How a machine is named in the tables."""

from pathlib import Path

import pytest

from gateway.bench.machine import machine_name


@pytest.mark.parametrize(
    ("flags", "unit"),
    [
        ("sse2 avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("avx2 avx_vnni", "avx_vnni"),
        ("asimd", "no vector unit known here"),
    ],
)
def test_machine_is_named_with_its_best_unit(tmp_path: Path, flags: str, unit: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"cpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Xeon\nflags\t\t: {flags}\n")
    assert machine_name(path).endswith(f" cores of Xeon (family 6, model 85, {unit})")
