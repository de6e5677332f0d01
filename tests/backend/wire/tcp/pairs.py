"""Two ends of a stream in this process, over real sockets of loopback."""

import select
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from backend.wire.messages import (
    Abort,
    Ready,
    Reply,
    Request,
    SeqOutput,
    StepOutput,
    StepTimings,
    Submit,
)
from backend.wire.sampling import SamplingParams
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.dial import dial
from backend.wire.tcp.ends import TcpLeadEnd, TcpWorkerEnd
from backend.wire.tcp.handshake import Hello
from backend.wire.tcp.sockets import configure, create_listener
from backend.wire.tcp.stream import Stream

T = TypeVar("T")

SECRET = bytes(range(32))
INCARNATION = 7
HELLO = Hello(gateway=0, worker=3, epoch=5, incarnation=INCARNATION)
# Whatever is waited for comes in milliseconds, unless the machine stands still; only a test that
# fails waits so long.
WAIT_S = 60.0


def connected() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets of TCP, configured as those of streams are."""
    with create_listener("127.0.0.1") as listener:
        listener.listen()
        dialled = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    configure(dialled)
    configure(accepted)
    return accepted, dialled


def ends() -> tuple[TcpLeadEnd, TcpWorkerEnd]:
    lead, worker = connected()
    return TcpLeadEnd(5, Stream(lead)), TcpWorkerEnd(Stream(worker))


def admitted(acceptor: Acceptor) -> tuple[int, TcpLeadEnd]:
    """Wait for the next worker that is let in."""
    assert select.select([acceptor], [], [], WAIT_S)[0], "nobody was let in"
    [(hello, stream)] = acceptor.take()
    return hello.worker_key, TcpLeadEnd(hello.epoch, stream)


def through(acceptor: Acceptor, address: LeadAddress) -> tuple[int, TcpLeadEnd, TcpWorkerEnd]:
    """Dial, and be let in."""
    worker = TcpWorkerEnd(dial(address, HELLO))
    return *admitted(acceptor), worker


def in_thread(call: Callable[[], T]) -> Callable[[], T]:
    """Start a call in a thread; what is returned waits for its result, or its exception."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> T:
        thread.join(WAIT_S)
        assert not thread.is_alive(), "the call has not ended"
        if errors:
            raise errors[0]
        return results[0]

    return result


def wait_for_bytes(end: Stream | TcpWorkerEnd) -> None:
    """Wait until something has arrived, if only the end."""
    stream = end._stream if isinstance(end, TcpWorkerEnd) else end
    assert select.select([stream], [], [], WAIT_S)[0], "nothing came"


def wait_for_requests(lead: TcpLeadEnd, count: int) -> list[Request]:
    requests: list[Request] = []
    while len(requests) < count:
        poll = select.poll()
        lead.register(poll)
        assert poll.poll(WAIT_S * 1000), "no request came"
        requests += lead.receive()
    return requests


def submit(seq_id: int, num_prompt_tokens: int = 3) -> Submit:
    return Submit(seq_id, [1] * num_prompt_tokens, [], SamplingParams(max_tokens=2))


def step(number: int, *outputs: SeqOutput) -> StepOutput:
    return StepOutput(number, list(outputs), StepTimings(), 10, 1, 0, 100)


SOME_REPLIES: list[Reply] = [
    Ready(0, 5, "cpu", "float32", "none", 1000, 1000, 1000, 1 << 20, 1000, 8, [1], 0, 10),
    step(1, SeqOutput(1, [5]), SeqOutput(2, [6, 7])),
    step(2),
]
SOME_REQUESTS: list[Request] = [submit(1), Abort(1), submit(2, 5000)]
