import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from backend.placement.device_profile import DeviceProfile, num_cores

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def profile() -> DeviceProfile:
    command = [sys.executable, "-m", "backend.measurement.calibrate"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=180, check=True)
    return msgspec.json.decode(run.stdout, type=DeviceProfile)


def test_calibration_is_of_this_machine(profile: DeviceProfile) -> None:
    assert profile.threads == num_cores()
    assert "unisono calibrate" in profile.source


def test_calibrated_numbers_are_sane(profile: DeviceProfile) -> None:
    """From a toy's processor to a server's: what is outside is a mistake of units."""
    assert 1e8 < profile.read_bandwidth < 1e13
    assert 1e8 < profile.attention_bandwidth < 1e14
    assert 1e-7 < profile.step_overhead_s < 0.1
    assert 1e-7 < profile.layer_overhead_s < 0.1
    assert 0 < profile.element_overhead_s < 1e-6
    assert all(1e8 < rate.peak < 1e16 for rate in profile.multiply.values())


def test_more_rows_multiply_no_slower(profile: DeviceProfile) -> None:
    """A busy machine may halve a figure, not more."""
    for name, rate in profile.multiply.items():
        assert rate.at(64) > rate.at(1) / 2, name


def test_reading_with_all_threads_is_no_slower_than_with_one(profile: DeviceProfile) -> None:
    assert profile.read_bandwidth > profile.thread_read_bandwidth / 3
