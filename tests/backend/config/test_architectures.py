"""The names of architectures agree with the classes behind them."""

import pytest

from backend.config.architectures import GGUF_ARCHITECTURES, HF_ARCHITECTURES
from backend.models.registry import ARCHITECTURES


@pytest.mark.parametrize("names", [GGUF_ARCHITECTURES, HF_ARCHITECTURES])
def test_formats_name_every_architecture_that_has_a_class(
    names: dict[str, str],
) -> None:
    assert set(names.values()) == set(ARCHITECTURES)
