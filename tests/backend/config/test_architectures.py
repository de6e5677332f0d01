"""The names of architectures agree with the classes behind them."""

import pytest

from backend.config.architectures import GGUF_ARCHITECTURES, HF_ARCHITECTURES
from backend.models.registry import ARCHITECTURES


@pytest.mark.parametrize("names", [GGUF_ARCHITECTURES, HF_ARCHITECTURES])
def test_each_format_names_every_architecture_that_has_a_class_and_no_other(
    names: dict[str, str],
) -> None:
    assert set(names.values()) == set(ARCHITECTURES)
