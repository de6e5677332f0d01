"""Where a device is plugged in, read off a sysfs of the test's own."""

from pathlib import Path

import pytest
import torch

from backend.engine.device_locality import numbers_of, pci_address, processors_near, stay_near


def sysfs(root: Path, node: str, listed: str = "") -> Path:
    device = root / "bus/pci/devices" / pci_address(0, 0x3B, 0)
    device.mkdir(parents=True)
    (device / "numa_node").write_text(f"{node}\n")
    if listed:
        place = root / f"devices/system/node/node{node}"
        place.mkdir(parents=True)
        (place / "cpulist").write_text(f"{listed}\n")
    return root


def test_processors_are_those_of_the_devices_node(tmp_path: Path) -> None:
    root = sysfs(tmp_path, "1", "4-6,12")
    assert processors_near("0000:3b:00.0", root) == {4, 5, 6, 12}
    assert processors_near("0000:5e:00.0", root) == set()


@pytest.mark.parametrize(("node", "listed"), [("-1", ""), ("1", ""), ("one", "")])
def test_what_is_not_told_binds_nobody(tmp_path: Path, node: str, listed: str) -> None:
    assert processors_near("0000:3b:00.0", sysfs(tmp_path, node, listed)) == set()


def test_lists_of_the_kernel_are_read() -> None:
    assert numbers_of("0-2,5,7-8\n") == {0, 1, 2, 5, 7, 8}
    assert numbers_of("\n") == set()


def test_cpu_has_no_place_on_the_bus() -> None:
    stay_near(torch.device("cpu"))
