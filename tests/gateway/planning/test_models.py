"""What MODEL means to a plan: paths, names of the catalogue and of the hub."""

import json
from pathlib import Path

import pytest

from backend.config.errors import ModelError
from backend.config.load import load_config
from gateway.hub import ModelNotFound
from gateway.planning.models import HubAccess, find_model
from tests.backend.factories import write_mixed_gguf, write_tiny_llama
from tests.backend.placement.planned_models import FIELDS
from tests.gateway.planning.hub_stand_in import hub_of


@pytest.fixture(autouse=True)
def without_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_directory_needs_no_weights(tmp_path: Path) -> None:
    whole = write_tiny_llama(tmp_path / "whole", tie=True)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((whole / "config.json").read_bytes())
    found = [find_model(str(path)) for path in (whole, bare, bare / "config.json")]
    assert {each.num_parameters for each in found} == {found[0].num_parameters}
    assert found[1].config.spec == found[0].config.spec


def test_gguf_file_is_known_by_its_header(tmp_path: Path) -> None:
    path = write_mixed_gguf(tmp_path)
    found = find_model(str(path))
    assert found.config == load_config(path)
    assert found.source == f"the header of {path}"


def test_catalogue_goes_before_the_hub() -> None:
    with hub_of({}) as hub:
        assert find_model("meta-llama/Llama-2-7b-hf").name == "Llama-2-7b"
    assert hub.asked == []


def test_config_is_all_that_is_fetched_of_a_directory() -> None:
    files = {
        "org/own/config.json": json.dumps(FIELDS).encode(),
        "org/own/model.safetensors": bytes(1000),
    }
    with hub_of(files) as hub:
        found = find_model("org/own")
    assert found.source == "config.json of org/own"
    assert found.num_parameters == 106_816
    # huggingface_hub may ask for things of its own.
    files_asked = {name for _, name, _ in hub.asked if name.startswith("org/own")}
    assert files_asked == {"org/own/config.json"}


def test_header_is_all_that_is_fetched_of_a_gguf_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In more requests until it is whole; the file's weights never."""
    monkeypatch.setattr("gateway.planning.remote.FIRST_BYTES", 256)
    path = write_mixed_gguf(tmp_path)
    content = path.read_bytes()
    with hub_of({"org/own/tiny.gguf": content}) as hub:
        found = find_model("org/own:tiny.gguf")
    local = find_model(str(path))
    assert found.config.spec == local.config.spec
    name = "model.layers.0.self_attn.q_proj.weight"
    assert found.stored.weight_format(name) is local.stored.weight_format(name)
    assert len(hub.asked) > 3 and hub.sent_bytes < len(content) / 2
    assert found.name == "org/own"


def test_names_that_nobody_has_are_refused_with_their_neighbours() -> None:
    with pytest.raises(ModelNotFound, match="no such name; did you mean Llama-2-13b"):
        find_model("Llama-2-14b")
    with hub_of({"org/own/tiny.gguf": b"GGUF"}):
        with pytest.raises(ModelNotFound, match=r"org/own has no config\.json.*org/own:file\.gguf"):
            find_model("org/own")
        with pytest.raises(ModelNotFound, match="there is no model org/Llama-2-14b on the hub"):
            find_model("org/Llama-2-14b")
        with pytest.raises(ModelNotFound, match=r"org/own has no file other\.gguf"):
            find_model("org/own:other.gguf")


def test_hub_is_not_asked_offline() -> None:
    with hub_of({}) as hub, pytest.raises(ModelNotFound, match="the hub may not"):
        find_model("org/own", HubAccess(offline=True))
    assert hub.asked == []


def test_hub_that_is_away_is_told_from_one_that_has_nothing() -> None:
    with hub_of({}):
        pass  # its port is closed now
    with hub_of({}) as hub:
        hub.server_close()
        with pytest.raises(ModelNotFound, match="the hub cannot be reached"):
            find_model("org/Qwen3-9B")


def test_what_is_wrong_with_a_config_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FIELDS | {"mystery": 1}))
    with pytest.raises(ModelError, match="mystery"):
        find_model(str(path))
    with hub_of({"org/own/config.json": b"{"}), pytest.raises(ModelError, match="not valid JSON"):
        find_model("org/own")
