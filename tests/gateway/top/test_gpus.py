"""GPUs through a stand-in for NVML with the names of the real one; no GPU was at hand."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.top.gpus import Gpu, Gpus


class NVMLError(Exception):
    """What the library raises for everything."""


class Nvml(SimpleNamespace):
    """Two devices: a whole GPU, and one that tells neither utilisation nor power."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self) -> None:
        if self.fails:
            raise NVMLError("driver not loaded")

    def nvmlDeviceGetCount(self) -> int:
        if self.is_lost:
            raise NVMLError("unknown error")
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == 2:
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetName(self, device: int) -> str:
        return f"GPU {device}"

    def nvmlDeviceGetMemoryInfo(self, device: int) -> Any:
        return SimpleNamespace(used=2**30, total=2**32)

    def nvmlDeviceGetUtilizationRates(self, device: int) -> Any:
        if device == 1:
            raise NVMLError("not supported")
        return SimpleNamespace(gpu=75)

    def nvmlDeviceGetTemperature(self, device: int, sensor: int) -> int:
        return 50

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        if device == 1:
            raise NVMLError("not supported")
        return 123_000


def gpus(monkeypatch: pytest.MonkeyPatch, **state: bool) -> tuple[Gpus, Nvml]:
    library = Nvml(**({"fails": False, "is_lost": False} | state))
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return Gpus(), library


def test_what_a_device_does_not_tell_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found, library = gpus(monkeypatch)
    assert found.read() == [
        Gpu(0, "GPU 0", 0.75, 2**30, 2**32, 50, 123.0),
        Gpu(1, "GPU 1", None, 2**30, 2**32, 50, None),
    ]
    library.is_lost = True
    assert found.read() == []


def test_without_a_driver_or_the_package_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus(monkeypatch, fails=True)[0].read() == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus().read() == []
