"""Utilisation and memory of the NVIDIA GPUs of this machine, where NVML can be asked.

Needs the optional package nvidia-ml-py and a driver; without either there are none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device now. StepColumns are 0 to 1.

    None is what it does not tell: a slice of a GPU (MIG) has no utilisation, many have no power.
    """

    index: int
    name: str
    utilisation: float | None
    used_bytes: int
    total_bytes: int
    temperature_c: int | None
    watts: float | None


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
        count = self._ask(self._nvml.nvmlDeviceGetCount) or 0
        # None: fallen off the bus, or not ours to see.
        return [gpu for index in range(count) if (gpu := self._ask(self._gpu, index)) is not None]

    def _gpu(self, index: int) -> Gpu:
        nvml = self._nvml
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, device)
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, device)
        return Gpu(
            index,
            str(nvml.nvmlDeviceGetName(device)),
            None if rates is None else rates.gpu / 100,
            int(memory.used),
            int(memory.total),
            self._ask(nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU),
            None if milliwatts is None else milliwatts / 1000,
        )

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Return NVML's answer; None if it has none, or the question is newer than the driver."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None
