"""A profile survives its file, and knows its rates between those numbers of rows it was told."""

from pathlib import Path

import msgspec
import pytest

from backend.placement.device_profile import (
    PROFILE_VERSION,
    DeviceProfile,
    MultiplyRate,
    ProfileError,
    calibration_path,
    num_cores,
    processor_name,
    read_profile,
)

RATE = MultiplyRate(1000.0, ((1, 0.1), (5, 0.5), (64, 1.0)))
PROFILE = DeviceProfile(
    name="a box",
    kind="cpu",
    memory_bytes=8 << 30,
    read_bandwidth=28e9,
    multiply={"int8": RATE, "int8:Q4_K": MultiplyRate(700.0)},
    threads=2,
    source="measured",
    version=PROFILE_VERSION,
)


def test_profile_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "box.json"
    path.write_bytes(PROFILE.as_json())
    assert read_profile(path) == PROFILE


def test_profile_of_another_version_is_to_be_measured_anew(tmp_path: Path) -> None:
    """Figures of two ways of measuring were mixed: some of them an hour older than the others."""
    path = tmp_path / "box.json"
    path.write_bytes(msgspec.structs.replace(PROFILE, version=PROFILE_VERSION - 1).as_json())
    with pytest.raises(ProfileError, match=r"box\.json was measured in another way"):
        read_profile(path)


@pytest.mark.parametrize("text", ["", "{}", '{"name": "x", "speed": 1}'])
def test_other_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "box.json"
    path.write_text(text)
    with pytest.raises(ProfileError, match=r"box\.json is no device profile"):
        read_profile(path)


@pytest.mark.parametrize(
    ("rows", "rate"),
    [(0.5, 100), (1, 100), (3, 300), (5, 500), (34.5, 750), (64, 1000), (99, 1000)],
)
def test_rate_lies_between_those_that_are_known(rows: float, rate: float) -> None:
    assert RATE.at(rows) == pytest.approx(rate)


def test_rate_of_a_format_goes_before_that_of_its_arithmetic() -> None:
    assert PROFILE.multiply_rate("int8", "Q4_K") == MultiplyRate(700.0)
    assert PROFILE.multiply_rate("int8", "Q4_1") == RATE
    assert PROFILE.multiply_rate("bf16") is None


def test_path_names_processor_cores_and_level(tmp_path: Path) -> None:
    path = calibration_path(tmp_path, "Intel(R) Xeon(R) Processor @ 2.30GHz", 2, "avx512")
    assert path == tmp_path / "intel-r-xeon-r-processor-2-30ghz-2-avx512.json"
    assert num_cores() >= 1


def test_processor_says_its_name(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU 9\n")
    assert processor_name(file) == "Some CPU 9"
    file.write_text("processor\t: 0\n")
    assert processor_name(file)


def test_read_bandwidth_lies_between_those_of_known_sizes() -> None:
    profile = msgspec.structs.replace(PROFILE, read_by_bytes=((100, 40e9), (10_000, 20e9)))
    assert [profile.read_bandwidth_of(size) for size in (1, 100)] == [40e9, 40e9]
    assert profile.read_bandwidth_of(1000) == pytest.approx(30e9)
    assert [profile.read_bandwidth_of(size) for size in (10_000, 1 << 40)] == [20e9, 20e9]
    assert PROFILE.read_bandwidth_of(1000) == 28e9
