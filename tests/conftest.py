"""What every test may count on."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run `async def` tests on asyncio alone: the server runs on nothing else."""
    return "asyncio"
