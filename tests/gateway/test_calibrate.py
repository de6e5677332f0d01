"""`unisono calibrate` around what it measures: where profiles are kept, how shown, failures."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from backend import native
from backend.placement.device_profile import (
    PROFILE_VERSION,
    DeviceProfile,
    MultiplyRate,
    Serving,
    read_profile,
)
from backend.settings import EngineSettings
from gateway.bench.death import ServerDeath
from gateway.bench.launched_server import ServerDied
from gateway.commands import calibrate
from gateway.options import SettingsError

PROFILE = DeviceProfile(
    name="a box",
    version=PROFILE_VERSION,
    kind="cpu",
    memory_bytes=16_000_000_000,
    read_bandwidth=10e9,
    read_by_bytes=((64_000_000, 20e9), (1_000_000_000, 10e9)),
    multiply={"int8": MultiplyRate(2e11, ((1, 0.25), (64, 1.0)))},
    attention_bandwidth=9e9,
    attention_rate=8e10,
    link_bandwidth=1.5e9,
    link_latency_s=4e-5,
    step_overhead_s=3e-4,
    layer_overhead_s=6e-5,
    token_overhead_s=2e-5,
    source="measured today",
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path))


def _child(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(calibrate, "_MEASURE", (sys.executable, "-c", program))


def _no_server(profile: DeviceProfile, settings: EngineSettings, report: object) -> DeviceProfile:
    raise ServerDied(ServerDeath("", "no port is free", False))


def test_profile_is_kept_for_predictions_and_shown_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no server starts its part is left out, and that is said."""
    _child(monkeypatch, f"print({PROFILE.as_json().decode()!r})")
    monkeypatch.setattr(calibrate, "with_serving", _no_server)
    assert calibrate.run({"json": True}) == 0
    output = capsys.readouterr()
    assert msgspec.json.decode(output.out, type=DeviceProfile) == PROFILE
    path = calibrate.profile_path("cpu", "auto")
    assert read_profile(path) == PROFILE
    assert "left out: no port is free" in output.err
    assert str(path) in output.err


def test_failed_measurement_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _child(monkeypatch, "raise SystemExit(1)")
    with pytest.raises(SystemExit, match="nothing was kept"):
        calibrate.run({})
    assert not calibrate.profile_path("cpu", "auto").exists()


def test_interrupted_measurement_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            children.append(self)
            pipe, self.stdout = self.stdout, None
            assert pipe is not None
            pipe.close()
            raise_on_read = _RaisesOnRead()
            self.stdout = raise_on_read  # type: ignore[assignment]

    _child(monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate.measure_engine("cpu", "auto")
    assert children[0].returncode is not None


class _RaisesOnRead:
    def read(self) -> bytes:
        raise KeyboardInterrupt

    def close(self) -> None:
        pass


def test_what_serving_takes_is_kept_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def served(profile: DeviceProfile, settings: EngineSettings, report: object) -> DeviceProfile:
        return msgspec.structs.replace(profile, on_all_cores=Serving(7e-4, 3e-5))

    _child(monkeypatch, f"print({PROFILE.as_json().decode()!r})")
    monkeypatch.setattr(calibrate, "with_serving", served)
    assert calibrate.run({}) == 0
    assert "threads on all       700 us a step, 30 us a token" in capsys.readouterr().out
    assert read_profile(calibrate.profile_path("cpu", "auto")).on_all_cores.step_s == 7e-4


def test_table_shows_every_rate_in_multiply_adds() -> None:
    text = calibrate.as_table(PROFILE)
    assert "int8                  25.0" in text
    assert "64 MB        20.0 GB/s" in text
    assert "40 us, and 1.50 GB/s" in text


def test_table_shows_what_threads_cost_each_other() -> None:
    shared = msgspec.structs.replace(
        PROFILE, meetings=((1, 1e-5), (256, 2e-4)), thread_shares=((1, 0.75), (256, 0.5))
    )
    table = calibrate.as_table(shared)
    assert "10, 12, 21, 57, 200 us with 1, 4, 16, 64, 256 rows" in table
    assert "75%, 75%, 74%, 69%, 50% of what all do" in table
    assert "meet" not in calibrate.as_table(PROFILE)


def test_level_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "levels", lambda: ["avx2", "portable"])
    with pytest.raises(SettingsError, match="avx512"):
        calibrate.profile_path("cpu", "avx512")


def test_profile_without_kernels_is_of_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "levels", list)
    assert calibrate.profile_path("cpu", "auto").name.endswith("-torch.json")


def test_place_that_cannot_be_written_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute was measured before its traceback came."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "file"))
    _child(monkeypatch, "raise SystemExit('measured')")
    with pytest.raises(SettingsError, match=r"written to: Not a dir.*UNISONO_CACHE names"):
        calibrate.run({})
