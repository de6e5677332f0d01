"""Where a device is plugged in: the processors beside it, whose memory it reaches the shortest way.

A rank copies plans to its device and launches its kernels; from the other socket each of that takes
longer. Reads sysfs, knows no PyTorch but the device's address on the bus.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

SYSFS = Path("/sys")


def stay_near(device: torch.device) -> None:
    """Have this process, and the threads it starts from now on, run beside its device."""
    if device.type != "cuda":
        return
    properties: Any = torch.cuda.get_device_properties(device)  # the stub leaves the bus out
    address = pci_address(properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id)
    allowed = os.sched_getaffinity(0)
    near = processors_near(address) & allowed
    if near and near != allowed:
        with contextlib.suppress(OSError):  # a rank that runs elsewhere is slower, no more
            os.sched_setaffinity(0, near)
            logger.info("device=%s pci=%s processors=%d", device, address, len(near))


def pci_address(domain: int, bus: int, slot: int) -> str:
    """Return a device's name on the bus as sysfs has it."""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.0"


def processors_near(address: str, sysfs: Path = SYSFS) -> set[int]:
    """Return the processors of a device's NUMA node; none where that is not known."""
    try:
        node = int((sysfs / "bus/pci/devices" / address / "numa_node").read_text())
        if node < 0:  # the machine has one, or does not tell
            return set()
        listed = (sysfs / f"devices/system/node/node{node}/cpulist").read_text()
        return numbers_of(listed)
    except (OSError, ValueError):
        return set()


def numbers_of(listed: str) -> set[int]:
    """Return the numbers of the kernel's lists: "0-3,8" -> {0, 1, 2, 3, 8}."""
    found: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
