"""Who decides on the sampling of a request that does not say: operator, model's files, OpenAI."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.config.errors import ModelError
from gateway.sampling_defaults import SamplingDefaults, load_sampling_defaults

NONE = SamplingDefaults()


def directory(path: Path, **fields: Any) -> Path:
    (path / "generation_config.json").write_text(json.dumps(fields))
    return path


def test_files_count_unless_told_otherwise(tmp_path: Path) -> None:
    path = directory(tmp_path, temperature=1, top_k=20, max_new_tokens=9)
    sampling = load_sampling_defaults(path, "auto", NONE)
    assert sampling.defaults == SamplingDefaults(temperature=1.0, top_k=20, max_new_tokens=9)
    assert str(sampling) == "temperature 1, top_k 20, max_new_tokens 9 (generation_config.json)"
    for mode in ("none", "vllm"):
        off = load_sampling_defaults(path, mode, NONE)
        assert (off.defaults, str(off)) == (NONE, "")


def test_operator_goes_before_the_files(tmp_path: Path) -> None:
    path = directory(tmp_path, temperature=0.2, top_p=0.9)
    override = SamplingDefaults(temperature=0.7)
    both = load_sampling_defaults(path, "auto", override).defaults
    assert both == SamplingDefaults(temperature=0.7, top_p=0.9)
    alone = load_sampling_defaults(path, "none", override)
    assert (alone.defaults, str(alone)) == (override, "temperature 0.7")


def test_value_no_request_could_have_is_refused_with_ways_out(tmp_path: Path) -> None:
    path = directory(tmp_path, temperature=3.5)
    with pytest.raises(ModelError) as refused:
        load_sampling_defaults(path, "auto", NONE)
    first, *others = str(refused.value).splitlines()
    assert first.endswith("generation_config.json: temperature is 3.5; expected `float` <= 2.0.")
    assert len(others) == 2 and '{"temperature": ...}' in others[1]
    replaced = load_sampling_defaults(path, "auto", SamplingDefaults(temperature=1.5))
    assert replaced.defaults.temperature == 1.5
    with pytest.raises(ModelError, match="top_k is 'many'; expected `int"):
        load_sampling_defaults(directory(tmp_path, top_k="many"), "auto", NONE)
