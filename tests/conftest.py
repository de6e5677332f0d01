"""What every test may count on."""

import os

import pytest

from tests.level import forced_level

# This comes before any test module, and so before torch, is imported.
os.environ.update(forced_level().variables)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run `async def` tests on asyncio alone: the server runs on nothing else."""
    return "asyncio"
