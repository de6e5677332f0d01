"""A group of another gateway, which we use by its address: nothing of it is started or ended here.

One look finds out what it is; after that each worker has a channel of its own to it, and makes
another when that is cut, until the group is there again. Who watches its processes, and starts them
anew, is the supervisor that it belongs to.
"""

import asyncio
import logging
import secrets
import select
import threading
import time
from collections.abc import Callable, Sequence

from backend.wire.channel import ChannelBroken
from backend.wire.control import Dial
from backend.wire.local.child import ProcessName
from backend.wire.local.heartbeat import Load
from backend.wire.messages import Ready
from backend.wire.offer import Offer
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.ends import TcpWorkerEnd
from backend.wire.tcp.handshake import Hello, Reason
from gateway.layout import GroupPlace
from gateway.supervision.control_messages import RankView
from gateway.supervision.fault import Fault
from gateway.supervision.incarnation import IncarnationOwner

logger = logging.getLogger(__name__)

# The number of who only looks; workers have lower ones.
ONLOOKER = 2**31 - 1
READY_SECONDS = 5.0
# Waiting grows with each failure.
LEAST_WAIT_S, MOST_WAIT_S = 0.5, 5.0
# More trying would change nothing.
HOPELESS = {Reason.SECRET, Reason.PROTOCOL, Reason.SCHEMA, Reason.ENCRYPTION, Reason.STRANGER}


class JoinedReplica:
    """The group as far as channels go. Its ranks are not ours to see."""

    def __init__(self, number: int, epoch: int, gateway: int, address: LeadAddress) -> None:
        """gateway: a random number above 0, of this server."""
        self.epoch = epoch
        self.node = ""
        self.load: Load | None = None
        self.ranks: Sequence[ProcessName] = ()
        self._number, self._gateway, self._address = number, gateway, address

    def connect(self, worker: int, epoch: int) -> Offer:
        return Offer(Dial(self._gateway, worker, self._number, epoch, self._address))

    def detach(self, worker: int, epoch: int) -> None:
        """The lead sees the end of the worker's connection."""

    def retire(self) -> None:
        """It is not ours."""

    def renew(self, certificate: str, key: str) -> None:
        """Its certificate is its own supervisor's."""

    def stop(self) -> None:
        """It is not ours."""

    def kill(self) -> None:
        """It is not ours."""


class JoinedIncarnation:
    """From the first look until we leave; deaths of the group are told by channels alone."""

    def __init__(
        self,
        number: int,
        epoch: int,
        gateway: int,
        address: LeadAddress,
        identity: str,
        owner: IncarnationOwner,
    ) -> None:
        """identity: of the model that is served here. A group with another is a fault."""
        self.replica = JoinedReplica(number, epoch, gateway, address)
        self.waits_for = ""
        self.ready: Ready | None = None
        self.fault: Fault | None = None
        self._number, self._address, self._identity = number, address, identity
        self._hello = Hello(gateway, ONLOOKER, epoch, incarnation=0)
        self._owner = owner
        self._is_leaving = False
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._look, name=f"look at group {number}", daemon=True).start()

    @property
    def is_over(self) -> bool:
        return self.fault is not None or self._is_leaving

    def ranks(self) -> list[RankView]:
        return []

    def leave(self) -> None:
        if not self.is_over:
            self._is_leaving = True
            self._loop.call_soon(self._owner.ended)

    def kill(self) -> None:
        self.leave()

    # the look, in a thread

    def _look(self) -> None:
        wait_s, last_said = LEAST_WAIT_S, ""
        while not self._is_leaving:
            fault = ""
            is_hopeless = False
            try:
                ready = self._see()
                if not ready.model or ready.model == self._identity:
                    self._tell(self._take, ready)
                    return
                fault, is_hopeless = "it serves another model than this gateway", True
            except DialError as error:
                fault, is_hopeless = str(error), error.reason in HOPELESS
            except (ChannelBroken, TimeoutError) as error:
                fault = str(error)
            if is_hopeless:
                self._tell(self._fail, fault)
                return
            if fault != last_said:
                last_said = fault
                logger.warning("group %d cannot be joined yet: %s", self._number, fault)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, MOST_WAIT_S)

    def _see(self) -> Ready:
        """Return what the group says of itself. Raises DialError, ChannelBroken, TimeoutError."""
        stream = dial(self._address, self._hello)
        end = TcpWorkerEnd(stream)
        try:
            until_s = time.monotonic() + READY_SECONDS
            while (left_s := until_s - time.monotonic()) > 0:
                for reply in end.receive():
                    if isinstance(reply, Ready):
                        return reply
                select.select([stream], [], [], min(left_s, 0.5))
            raise TimeoutError("the group says nothing")
        finally:
            end.close()

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            pass  # the loop has ended, and with it who would care

    def _take(self, ready: Ready) -> None:
        if not self.is_over:
            self.ready = ready
            self._owner.became_ready()

    def _fail(self, cause: str) -> None:
        if self.is_over:
            return
        where = f"{self._address.host}:{self._address.port}"
        self.fault = Fault(f"the group at {where}", 0, "cannot be joined", cause, 0, "joining", 0)
        self._owner.faulted(self.fault)
        self._loop.call_soon(self._owner.ended)


class JoinedLauncher:
    """Joins groups by their addresses."""

    def __init__(self, identity: str) -> None:
        """identity: of the model that is served here."""
        self._gateway = 1 + secrets.randbelow(2**31 - 1)
        self._identity = identity

    def launch(
        self, number: int, epoch: int, place: GroupPlace, owner: IncarnationOwner
    ) -> JoinedIncarnation:
        """Join group `number`, whose turns `owner` is told."""
        assert place.address is not None
        return JoinedIncarnation(number, epoch, self._gateway, place.address, self._identity, owner)
