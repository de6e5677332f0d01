import pytest

from tests.gateway.pool.world import World


@pytest.fixture
def world() -> World:
    """A pool without groups."""
    return World()
