"""What --devices may say."""

import re
from pathlib import Path

import msgspec
import pytest

from backend import native
from backend.placement.device_profile import (
    PROFILE_VERSION,
    calibration_path,
    num_cores,
    processor_name,
)
from gateway.options import SettingsError
from gateway.planning import devices as module
from gateway.planning.devices import GIB, READ_SHARE, cards, cpu_profile, parse_devices


@pytest.mark.parametrize(
    ("text", "count", "name", "gib"),
    [
        ("4xA10", 4, "A10", 24),
        ("A10", 1, "A10", 24),
        ("2*a100-40gb", 2, "A100-40GB", 40),
        ("8 x RTX 4090", 8, "RTX4090", 24),
        ("3060", 1, "RTX3060", 12),
        ("4x24GiB", 4, "24 GiB", 24),
    ],
)
def test_cards_are_known_by_their_names(text: str, count: int, name: str, gib: float) -> None:
    devices = parse_devices(text)
    assert (devices.count, devices.profile.name) == (count, name)
    assert devices.profile.memory_bytes == gib * GIB


def test_table_2_of_the_article_is_there() -> None:
    """3060 12, V100 16, 4090 24, A10 24, A100 40 and 80."""
    memory = {card.name: card.memory_gib for card in cards()}
    assert [memory[name] for name in ("RTX3060", "V100", "RTX4090", "A10")] == [12, 16, 24, 24]
    assert (memory["A100-40GB"], memory["A100-80GB"]) == (40, 80)
    assert all(card.source for card in cards())


def test_figures_given_are_taken_as_a_datasheets() -> None:
    devices = parse_devices("4x24GiB@600GB/s,125TFLOPS,link=32GB/s")
    known = parse_devices("4xA10").profile
    profile = devices.profile
    assert devices.has_speed and profile.read_bandwidth == 600e9 * READ_SHARE
    for field in ("memory_bytes", "read_bandwidth", "link_bandwidth"):
        assert getattr(profile, field) == getattr(known, field)
    assert profile.multiply["bf16"] == known.multiply["bf16"]


def test_memory_alone_predicts_no_speed() -> None:
    assert not parse_devices("4x24GiB").has_speed
    assert parse_devices("2x24GB").profile.memory_bytes == 24 * 10**9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4xA11", "A11 is no card that is known here; did you mean A10 or "),
        ("0xA10", "1 to 64 devices can be planned for, not 0"),
        ("100xA10", "1 to 64 devices"),
        ("4x24GiB@600GB/s", "its TFLOPS is missing"),
        ("4x24GiB@125TFLOPS", "its bandwidth .* is missing"),
        ("4x24GiB@600GB/s,fast", "'fast' is no figure"),
        ("4x0GiB", "every figure must be above 0"),
        ("4x24GiB@0GB/s,1TFLOPS", "every figure must be above 0"),
        ("", "give 4xA10"),
        pytest.param("9" * 5000 + "xA10", "9xA10 is no card", id="digits"),
        pytest.param("1x" + "9" * 400 + "GiB", "9GiB is no card", id="infinite"),
        pytest.param("1x9GiB@" + "9" * 400 + "GB/s", "9GB/s' is no figure", id="speed"),
    ],
)
def test_other_words_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"--devices.*{message}"):
        parse_devices(text)


def test_processor_is_what_was_measured_or_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 8 * GIB)
    shipped = cpu_profile(tmp_path)
    assert "shipped" in shipped.source and shipped.memory_bytes == 8 * GIB
    levels = native.levels()
    level = levels[0] if levels else "torch"
    path = calibration_path(tmp_path, processor_name(), num_cores(), level)
    measured = msgspec.structs.replace(
        shipped, source="measured", memory_bytes=1, version=PROFILE_VERSION
    )
    path.write_bytes(measured.as_json())
    found = cpu_profile(tmp_path)
    assert (found.source, found.memory_bytes) == ("measured", 8 * GIB), "memory is that of now"
    path.write_text("{}")
    assert "shipped" in cpu_profile(tmp_path).source
    assert parse_devices("cpu", tmp_path).count == num_cores()


def test_gpu_of_this_machine_is_known_once_it_was_measured(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unisono calibrate --device cuda"):
        parse_devices("2xcuda", tmp_path)
    path = calibration_path(tmp_path, processor_name(), num_cores(), "cuda")
    measured = msgspec.structs.replace(
        parse_devices("A10").profile, source="measured", version=PROFILE_VERSION
    )
    path.write_bytes(measured.as_json())
    devices = parse_devices("2xcuda", tmp_path)
    assert (devices.count, devices.profile.source) == (2, "measured")


def test_each_level_has_shipped_figures() -> None:
    for level in (*module._LEVEL_RATES, "torch"):
        assert module._shipped_cpu(level, GIB).multiply


def test_nodes_and_their_network_are_read() -> None:
    devices = parse_devices("2x(4xA10),net=25Gb/s,50us")
    assert (devices.count, devices.nodes, devices.node_count) == (8, 2, 4)
    assert devices.network.bandwidth == 25e9 / 8
    assert devices.network.latency_s == pytest.approx(50e-6)
    assert str(devices) == "2 x (4 x A10)"
    described = parse_devices("3 x (2x24GiB@600GB/s,125TFLOPS)")
    assert (described.count, described.nodes, described.network.bandwidth) == (6, 3, 1.25e9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2x(4xA10", "of nodes 2x"),
        ("(4xA10)", "of nodes 2x"),
        ("2x(2x(4xA10))", "of nodes 2x"),
        ("2x(4xA10),net=fast", "'net=fast' is no figure of a network"),
        ("2x(4xA10),net=0Gb/s", "must be above 0"),
        ("9x(8xA10)", "1 to 64 devices can be planned for, not 72"),
        ("0x(8xA10)", "1 to 64 devices can be planned for, not 0"),
        ("2x(cpu)", "with GPUs alone"),
    ],
)
def test_nodes_that_mean_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        parse_devices(text)
