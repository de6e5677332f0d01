"""What a server says of itself when it is ready."""

from typing import Any

import msgspec
import pytest

from backend.wire.messages import Ready
from gateway.notices.banner import ready_lines
from gateway.sampling_defaults import ModelSampling, SamplingDefaults
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
NOTHING = ModelSampling(SamplingDefaults())


def ready(**changes: Any) -> Ready:
    return msgspec.structs.replace(READY, **changes)


def lines_of(
    *readies: Ready, api_keys: str = "", sampling: ModelSampling = NOTHING, **fields: Any
) -> list[str]:
    settings = Settings(server=ServerSettings(api_keys=api_keys))
    config = tiny_config(**fields)
    return ready_lines(
        config, settings, readies or (READY,), sampling, "cpu", "http://x", "tiny", "1 s"
    )


@pytest.mark.parametrize("file", ["", "keys.toml"])
def test_example_has_a_place_for_the_key_if_one_is_needed(file: str) -> None:
    """It was refused as it stood."""
    lines = lines_of(api_keys=file)
    assert ("Authorization: Bearer" in lines[-2]) == bool(file)


def test_kv_cache_is_told_in_tokens_and_bytes() -> None:
    assert "  KV cache   4,096 tokens (2.1 MB) a group, blocks of 32" in lines_of()


def test_states_are_told_beside_the_kv_cache_or_instead() -> None:
    states = "35 states of sequences (1.2 MB) a group"
    lines = lines_of(ready(num_slots=35, state_bytes=1_200_000))
    assert f"  KV cache   4,096 tokens (2.1 MB) a group, blocks of 32; {states}" in lines
    lines = lines_of(ready(num_slots=35, state_bytes=1_200_000, num_blocks=0))
    assert f"  KV cache   {states}" in lines


def test_tokens_beside_windows_are_told_with_their_length() -> None:
    lines = lines_of(ready(kv_capacity_tokens=9000))
    assert "  KV cache   9,000 tokens in requests of 512 (2.1 MB) a group, blocks of 32" in lines


def test_context_is_what_the_smallest_group_holds() -> None:
    """8,192 tokens were promised where the KV cache held 2,144."""
    assert "  context    512 tokens a request" in lines_of(READY, READY)
    (part,) = [line for line in lines_of(READY, ready(kv_sequence_tokens=448)) if "context" in line]
    assert part.startswith("  context    448 tokens a request") and "512" in part


def test_notes_of_the_model_are_told() -> None:
    assert "  note       served as text only" in lines_of(notes=("served as text only",))


def test_sampling_is_told_if_it_is_not_openais() -> None:
    assert not [line for line in lines_of() if "sampling" in line]
    sampling = ModelSampling(SamplingDefaults(temperature=0.6, top_k=20), "/x/a.json")
    (line,) = [line for line in lines_of(sampling=sampling) if "sampling" in line]
    assert "temperature 0.6, top_k 20 (a.json), where" in line
