"""One HTTP connection: Hypercorn's, which also ends when its client has left between two requests.

Hypercorn up to 0.18 then waits for keep_alive_timeout with the socket half closed, so every client
that brings one request a connection holds a descriptor for another 75 s. Must not know requests.
Installed by worker.py.
"""

from hypercorn.asyncio import run, tcp_server


class Connection(tcp_server.TCPServer):  # type: ignore[misc]  # Hypercorn's types are not read
    """Serves one client until either side has enough."""

    async def _read_data(self) -> None:
        """Read until the client leaves; nothing can make the connection busy again after that."""
        await super()._read_data()
        await self.idle_task.stop()


def install() -> None:
    """Have Hypercorn serve with Connection; it takes its class from a name in its module."""
    run.TCPServer = Connection
