"""A link between two machines that are not there, with a delay and a rate of its own.

Kernels without netem have none to give. Here packets pass through this program: each side is a
device in a network namespace, and what comes out of one goes into the other when it is due. Run
it as `python -m tests.e2e.tunnel NAMESPACE NAMESPACE MICROSECONDS GBITS`; it says `up` and goes on
until it is ended. Needs root. Its own passing on takes some 20 us each way, and part of a core.
"""

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field

MTU = 9000
NETWORK = "10.78.0"
# Numbers of Linux.
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET, PR_SET_TIMERSLACK = 0x40000000, 29
# As much as a switch keeps for one port; what comes beyond is dropped, and sent again by TCP.
QUEUE_BYTES = 4 << 20


@dataclass(slots=True)
class Direction:
    """Packets on their way. due_s: when each arrives; free_s: when the wire is."""

    into: int
    out: int
    delay_s: float
    bytes_per_s: float
    packets: deque[tuple[float, bytes]] = field(default_factory=deque)
    num_bytes: int = 0
    free_s: float = 0.0

    def take(self, now_s: float) -> None:
        """Take what has been sent."""
        while True:
            try:
                packet = os.read(self.into, MTU + 64)
            except BlockingIOError:
                return
            if self.num_bytes + len(packet) > QUEUE_BYTES:
                continue
            self.free_s = max(self.free_s, now_s) + len(packet) / self.bytes_per_s
            self.num_bytes += len(packet)
            self.packets.append((self.free_s + self.delay_s, packet))

    def give(self, now_s: float) -> None:
        """Hand over what is due."""
        while self.packets and self.packets[0][0] <= now_s:
            _, packet = self.packets.popleft()
            self.num_bytes -= len(packet)
            os.write(self.out, packet)


def device(namespace: str, number: int) -> int:
    """Make a device in a namespace, with an address that ends in `number`; return it, open."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"link0", IFF_TUN | IFF_NO_PI))
    finally:
        libc.setns(own, CLONE_NEWNET)
        os.close(own)
        os.close(there)
    for arguments in (
        ["addr", "add", f"{NETWORK}.{number}/24", "dev", "link0"],
        ["link", "set", "link0", "mtu", str(MTU), "txqueuelen", "1000", "up"],
    ):
        subprocess.run(["ip", "-n", namespace, *arguments], check=True)
    return fd


def main() -> None:
    """Pass packets on until ended."""
    one, two = device(sys.argv[1], 1), device(sys.argv[2], 2)
    delay_s, bytes_per_s = float(sys.argv[3]) / 1e6, float(sys.argv[4]) * 1e9 / 8
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1000)  # nanoseconds; a process has 50 us
    ways = [Direction(a, b, delay_s, bytes_per_s) for a, b in ((one, two), (two, one))]
    print("up", flush=True)
    while True:
        due = [way.packets[0][0] for way in ways if way.packets]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        select.select([one, two], [], [], timeout)
        for way in ways:
            way.take(time.monotonic())
            way.give(time.monotonic())


if __name__ == "__main__":
    main()
