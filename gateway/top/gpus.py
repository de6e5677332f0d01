"""Utilisation and memory of the NVIDIA GPUs of this machine, where NVML can be asked.

Needs the optional package nvidia-ml-py and a driver; without either there are none.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device now. Shares are 0 to 1."""

    index: int
    name: str
    utilisation: float
    used_bytes: int
    total_bytes: int
    temperature_c: int
    watts: float


class Gpus:
    """NVML, or nothing."""

    def __init__(self) -> None:
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception:  # not installed, no driver, no device: NVML has an error for each
            return
        self._nvml = pynvml

    def read(self) -> list[Gpu]:
        """Return every device that answers."""
        if self._nvml is None:
            return []
        found = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                found.append(self._gpu(index))
            except self._nvml.NVMLError:
                continue  # fallen off the bus, or not ours to see
        return found

    def _gpu(self, index: int) -> Gpu:
        nvml = self._nvml
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        return Gpu(
            index,
            str(nvml.nvmlDeviceGetName(device)),
            nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
            int(memory.used),
            int(memory.total),
            int(nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)),
            nvml.nvmlDeviceGetPowerUsage(device) / 1000,
        )
