"""What a server says of itself when it is ready."""

import pytest

from backend.wire.messages import Ready
from gateway.notices.banner import ready_lines
from gateway.settings import ServerSettings, Settings
from tests.backend.factories import tiny_config


@pytest.mark.parametrize("file", ["", "keys.toml"])
def test_example_has_a_place_for_the_key_if_one_is_needed(file: str) -> None:
    """It was refused as it stood."""
    ready = Ready(0, 1, "cpu", "float32", "own kernels", 512, 4096, 32, [1000], 500, 1)
    settings = Settings(server=ServerSettings(api_keys=file))
    lines = ready_lines(tiny_config(), settings, ready, "cpu", "http://x", "tiny", "1 s")
    assert ("Authorization: Bearer" in lines[-2]) == bool(file)
