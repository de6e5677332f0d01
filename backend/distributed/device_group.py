"""A group whose ranks compute on devices: which way each tensor is summed, and how it breaks up.

Tensors of the host (sizes, room for blocks, what a sampler on the host gathers) go as ever; those
on devices through a process group. A step that the host does not wait for ends with what the device
made of it even if a rank died meanwhile: then the group is broken, and check() says so before
anybody is told a token.
"""

import os

import torch
from torch import Tensor

from backend.distributed.peers import PeerWatch
from backend.distributed.process_group import open_store
from backend.distributed.tensor_parallel import TensorParallel


class DeviceGroup(TensorParallel):
    """One rank of several on devices."""

    def __init__(self, host: TensorParallel, devices: TensorParallel) -> None:
        """host, devices: what sums tensors of either place. All ranks of the group must call it."""
        super().__init__(host.rank, host.size)
        self._host, self._devices = host, devices
        self.description = devices.description
        self.waits_for_host = devices.waits_for_host
        self._broken = ""
        pids = host.all_gather(torch.tensor([os.getpid()])).flatten().tolist()
        self._others = [rank for rank in range(self.size) if pids[rank] != os.getpid()]
        if self._others:
            PeerWatch([pids[rank] for rank in self._others], self._lost)

    def all_reduce(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        return (self._host if x.is_cpu else self._devices).all_reduce(x)

    def all_gather(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        return (self._host if x.is_cpu else self._devices).all_gather(x)

    def check(self) -> None:
        """See TensorParallel."""
        if self._broken:
            raise RuntimeError(self._broken)

    def abort(self) -> None:
        """See TensorParallel."""
        self._break_up("the group has been given up")

    def _lost(self, place: int) -> None:
        self._break_up(f"rank {self._others[place]} of the group has ended")

    def _break_up(self, reason: str) -> None:
        # Before anything returns that waits for a rank.
        self._broken = self._broken or reason
        self._devices.abort()


def join_devices(host: TensorParallel, device: torch.device, store_fd: int) -> TensorParallel:
    """Return what sums over the ranks of a group, each with its device; host where that is the CPU.

    store_fd: of the group's memory for whoever has to meet. All ranks of the group must call it.
    """
    if host.size == 1 or device.type == "cpu":
        return host
    cards = host.all_gather(torch.tensor([device.index])).flatten().tolist()
    store = open_store(store_fd, host.size)
    if len(set(cards)) < host.size:
        from backend.distributed.gloo import GlooParallel

        return DeviceGroup(host, GlooParallel(host.rank, host.size, store))
    from backend.distributed.nccl import NcclParallel

    return DeviceGroup(host, NcclParallel(host, store, device))
