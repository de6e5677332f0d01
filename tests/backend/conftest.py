"""What tests of the kernels share."""

from collections.abc import Iterator

import pytest

from backend.native import kernels, levels


@pytest.fixture(params=levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have the kernels of one level serve, of every level in turn that the processor has."""
    kernels.use(request.param)
    yield request.param
    kernels.use(levels()[0])
