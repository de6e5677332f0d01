"""What a server says of itself when it is ready."""

from typing import Any

import msgspec
import pytest

from backend.wire.messages import Ready
from gateway.notices.banner import ready_lines
from gateway.settings import ServerSettings, Settings
from tests.backend.factories import tiny_config

READY = Ready(
    replica=0,
    epoch=1,
    device="cpu",
    dtype="float32",
    kernels="own kernels",
    max_model_len=512,
    kv_sequence_tokens=512,
    kv_capacity_tokens=4096,
    kv_bytes=2_100_000,
    num_blocks=128,
    block_size=32,
    weight_bytes=[1000],
    replicated_bytes=500,
    credit=1,
)


def lines_of(api_keys: str = "", **changes: Any) -> list[str]:
    ready = msgspec.structs.replace(READY, **changes)
    settings = Settings(server=ServerSettings(api_keys=api_keys))
    return ready_lines(tiny_config(), settings, ready, "cpu", "http://x", "tiny", "1 s")


@pytest.mark.parametrize("file", ["", "keys.toml"])
def test_example_has_a_place_for_the_key_if_one_is_needed(file: str) -> None:
    """It was refused as it stood."""
    lines = lines_of(api_keys=file)
    assert ("Authorization: Bearer" in lines[-2]) == bool(file)


def test_kv_cache_is_told_in_tokens_and_bytes() -> None:
    assert "  KV cache   4,096 tokens (2.1 MB) a group, blocks of 32" in lines_of()
    assert "  context    512 tokens a request" in lines_of()


def test_tokens_beside_windows_are_told_with_their_length() -> None:
    lines = lines_of(kv_capacity_tokens=9000)
    assert "  KV cache   9,000 tokens in requests of 512 (2.1 MB) a group, blocks of 32" in lines


def test_context_is_what_the_kv_cache_holds() -> None:
    """8,192 tokens were promised, and there was room for 2,144."""
    [line] = [line for line in lines_of(kv_sequence_tokens=96) if "context" in line]
    assert "96 tokens a request" in line and "the model takes 512 (--kv-cache-bytes)" in line
