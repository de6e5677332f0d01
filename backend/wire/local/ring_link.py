"""A link between two ranks of one machine: a ring in each direction that it has."""

import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from backend.wire.link import Payload
from backend.wire.local.ring import RingFds, RingReader, RingWriter, create_ring

# Of a stream to the next stage: 512 tokens of 4,096 in bf16 are 4 MiB, and steps follow each other.
FORWARD_BYTES = 16 << 20
BEAT_MS = 1000
# Of what goes back: a step's tokens, with log-probabilities of a prompt's.
BACK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LinkFds:
    """The descriptors of one end. out, into: of the rings it writes and reads, if it does."""

    out: RingFds | None = None
    into: RingFds | None = None

    def all(self) -> tuple[int, ...]:
        rings = self.out, self.into
        return tuple(fd for ring in rings if ring is not None for fd in ring.all())


class LinkRings:
    """What is made of a link, to be handed out to its two ends."""

    def __init__(self, forward_bytes: int = FORWARD_BYTES, back_bytes: int = BACK_BYTES) -> None:
        """back_bytes: 0 for a link that goes forward alone."""
        self._forward = create_ring(forward_bytes)
        self._back = create_ring(back_bytes) if back_bytes else None

    @property
    def first(self) -> LinkFds:
        """The end that sends forward."""
        return LinkFds(self._forward, self._back.view(0) if self._back else None)

    @property
    def second(self) -> LinkFds:
        """The other."""
        return LinkFds(self._back, self._forward.view(0))

    def close(self) -> None:
        self._forward.close()
        if self._back is not None:
            self._back.close()


class RingLink:
    """See Link. Owns the descriptors it is given."""

    def __init__(
        self, fds: LinkFds, *, epoch: int, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        """on_wait: called every second while this rank waits."""
        self._on_wait = on_wait
        self._writer = RingWriter(fds.out, epoch=epoch) if fds.out is not None else None
        self._reader = RingReader(fds.into, epoch=epoch) if fds.into is not None else None
        self._spaces = fds.out.spaces if fds.out is not None else ()
        self._received: deque[Payload] = deque()

    def fileno(self) -> int:
        assert self._reader is not None, "nothing comes this way"
        return self._reader.fileno()

    def send(self, payload: Payload) -> None:
        """See Link. Raises ValueError for what could never fit."""
        assert self._writer is not None, "nothing goes this way"
        while not self._writer.write(payload):
            self._wait(self._spaces[0])

    def receive(self) -> Payload:
        """See Link. Raises RingCorrupt."""
        while not self._received:
            self._wait(self.fileno())
            self._take()
        return self._received.popleft()

    def read(self) -> list[Payload]:
        """See Link. Raises RingCorrupt."""
        self._take()
        arrived = list(self._received)
        self._received.clear()
        return arrived

    def close(self) -> None:
        for ring in (self._writer, self._reader):
            if ring is not None:
                ring.close()

    def _take(self) -> None:
        assert self._reader is not None, "nothing comes this way"
        self._received += self._reader.read()

    def _wait(self, fd: int) -> None:
        """Sleep until a descriptor is readable."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not poll.poll(BEAT_MS):
            self._on_wait()
