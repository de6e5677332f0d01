"""How many requests a worker has under way: what draining it waits for."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send


class OpenExchanges:
    """Counts the requests under way, answers still being written included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._count += 1
        self._none.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    def __len__(self) -> int:
        return self._count

    async def end(self) -> None:
        """Return when none is left."""
        await self._none.wait()
