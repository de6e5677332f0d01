"""What a server says of itself when it is ready."""

import pytest

from backend.wire.messages import Ready
from gateway.notices.banner import ready_lines
from gateway.sampling_defaults import ModelSampling, SamplingDefaults
from gateway.settings import ServerSettings, Settings
from tests.backend.factories import tiny_config

SETTINGS = Settings()
NOTHING = ModelSampling(SamplingDefaults())


def ready(kv_capacity_tokens: int) -> Ready:
    sizes = (512, kv_capacity_tokens, 32)
    return Ready(0, 1, "cpu", "float32", "own kernels", *sizes, [1000], 500, 1)


def lines_of(
    *readies: Ready, settings: Settings = SETTINGS, sampling: ModelSampling = NOTHING
) -> list[str]:
    return ready_lines(tiny_config(), settings, readies, sampling, "cpu", "http://x", "tiny", "1 s")


@pytest.mark.parametrize("file", ["", "keys.toml"])
def test_example_has_a_place_for_the_key_if_one_is_needed(file: str) -> None:
    """It was refused as it stood."""
    lines = lines_of(ready(4096), settings=Settings(server=ServerSettings(api_keys=file)))
    assert ("Authorization: Bearer" in lines[-2]) == bool(file)


def test_context_is_what_the_smallest_group_holds() -> None:
    """8,192 tokens were promised where the KV cache held 2,144."""
    (whole,) = [line for line in lines_of(ready(4096), ready(512)) if "context" in line]
    assert whole == "  context    512 tokens a request"
    (part,) = [line for line in lines_of(ready(4096), ready(448)) if "context" in line]
    assert part.startswith("  context    448 tokens a request") and "512" in part


def test_sampling_is_told_if_it_is_not_openais() -> None:
    assert not [line for line in lines_of(ready(4096)) if "sampling" in line]
    sampling = ModelSampling(SamplingDefaults(temperature=0.6, top_k=20), "/x/a.json")
    (line,) = [line for line in lines_of(ready(4096), sampling=sampling) if "sampling" in line]
    assert "temperature 0.6, top_k 20 (a.json), where" in line
