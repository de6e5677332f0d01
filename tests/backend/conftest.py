"""What tests of the engine share."""

from collections.abc import Iterator

import pytest
import torch

from backend.native import kernels, levels
from backend.ops import cumulative_probs, token_masks, topk


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same numbers in whatever order tests run, and on whichever worker."""
    torch.manual_seed(0)


@pytest.fixture(params=levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have the kernels of one level serve, of every level in turn that the processor has."""
    kernels.use(request.param)
    yield request.param
    kernels.use(levels()[0])


@pytest.fixture(params=[*levels(), "torch"])
def sampling_level(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Sample by the kernels of one level, of every level in turn, and without the extension."""
    if request.param == "torch":
        for module in (cumulative_probs, token_masks, topk):
            monkeypatch.setattr(module, "kernels", None)
        yield request.param
        return
    kernels.use(request.param)
    yield request.param
    kernels.use(levels()[0])
