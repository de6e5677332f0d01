"""Memory limits as version 1 and 2 of the kernel's cgroups show them, laid out in a directory."""

from pathlib import Path

from backend.placement.cgroup import left_bytes
from backend.placement.memory import available_bytes

NO_LIMIT_1 = 9223372036854771712


def lay_out(directory: Path, *, limit: int | str, used: int, cache: int, version: int = 2) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    limit_file, used_file, prefix = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        2: ("memory.max", "memory.current", ""),
    }[version]
    (directory / limit_file).write_text(f"{limit}\n")
    (directory / used_file).write_text(f"{used}\n")
    stat = f"anon {used - cache}\n{prefix}inactive_file {cache - 1}\n{prefix}active_file 1\n"
    (directory / "memory.stat").write_text(stat)


def member(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "membership"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_left_bytes_are_the_narrowest_limit_without_cached_files(tmp_path: Path) -> None:
    """Pages of a model that was read before counted as taken: a rank that was started again inside
    a container did not fit any more."""
    lay_out(tmp_path / "pod.slice", limit=1000, used=700, cache=400)
    lay_out(tmp_path / "pod.slice/box", limit="max", used=700, cache=400)
    assert left_bytes(tmp_path, member(tmp_path, "0::/pod.slice/box")) == 700
    lay_out(tmp_path / "pod.slice/box", limit=800, used=700, cache=50)
    assert left_bytes(tmp_path, member(tmp_path, "0::/pod.slice/box")) == 150


def test_left_bytes_of_a_container_are_found_at_the_root(tmp_path: Path) -> None:
    lay_out(tmp_path, limit=500, used=100, cache=10)
    assert left_bytes(tmp_path, member(tmp_path, "0::/")) == 410
    assert left_bytes(tmp_path, member(tmp_path, "0::/docker/of/the/host")) == 410


def test_left_bytes_are_read_from_version_1_if_it_has_the_memory(tmp_path: Path) -> None:
    lay_out(tmp_path / "memory/box", limit=300, used=100, cache=20, version=1)
    lay_out(tmp_path / "memory", limit=NO_LIMIT_1, used=10**9, cache=1, version=1)
    assert left_bytes(tmp_path, member(tmp_path, "7:cpu:/box", "4:memory:/box", "0::/")) == 220


def test_left_bytes_without_a_limit_are_none(tmp_path: Path) -> None:
    assert left_bytes(tmp_path, member(tmp_path, "0::/")) is None
    assert left_bytes(tmp_path, tmp_path / "no file") is None
    assert available_bytes() > 0
