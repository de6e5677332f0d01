"""TAKEOFF_*: what each is here, which values are refused, and what is said of the others."""

from pathlib import Path

import pytest

from gateway import setting_sources
from gateway.options import SettingsError
from gateway.setting_sources import Loaded
from gateway.takeoff_variables import in_variables


def load(*files: Path, **variables: str) -> Loaded:
    path = files[0] if files else None
    environ = {f"TAKEOFF_{name}": value for name, value in variables.items()}
    return setting_sources.load({}, environ, path)


def test_each_variable_is_the_setting_that_means_the_same() -> None:
    loaded = load(
        MODEL_NAME="org/name",
        DEVICE="cpu",
        TENSOR_PARALLEL="2",
        MAX_BATCH_SIZE="8",
        MAX_SEQUENCE_LENGTH="4096",
        CONSUMER_GROUP="llama",
        ACCESS_TOKEN="hf_x",
        QUANT_TYPE="INT8",
        LOG_LEVEL="WARN",
        MANAGEMENT_PORT="3001",
        PAGE_CACHE_SIZE="10MB",
        BODY_SIZE_LIMIT_BYTES="2097152",
        BATCH_DURATION_MILLIS=" ",
    )
    server, engine = loaded.settings.server, loaded.settings.engine
    assert (engine.model, engine.device, engine.tp) == ("org/name", "cpu", 2)
    assert (engine.max_num_seqs, engine.max_model_len) == (8, 4096)
    assert (engine.quantization, engine.kv_cache_bytes) == ("int8", 10_000_000)
    assert (server.hf_token, server.group_name, server.log_level) == ("hf_x", "llama", "warning")
    assert (server.port, server.management_port) == (3000, 3001)
    assert server.max_body_bytes == 2 << 20
    assert loaded.sources["max_num_seqs"] == "TAKEOFF_MAX_BATCH_SIZE"
    assert loaded.notes == (), "an empty one is none"


def test_port_is_takeoffs_unless_anything_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "unisono.toml"
    path.write_text("[server]\nport = 9000\n")
    assert load(DEVICE="cpu").settings.server.port == 8000
    assert load(MODEL_NAME="a").settings.server.port == 3000
    assert load(path, MODEL_NAME="a").settings.server.port == 9000
    assert load(path, MODEL_NAME="a", PORT="3300").settings.server.port == 3300
    environ = {"TAKEOFF_MODEL_NAME": "a", "TAKEOFF_PORT": "1", "UNISONO_PORT": "2"}
    assert setting_sources.load({}, environ, None).settings.server.port == 2
    assert setting_sources.load({"port": "4"}, environ, None).settings.server.port == 4


def test_number_of_ranks_goes_before_visible_devices() -> None:
    environ = {"TAKEOFF_BACKEND": "multi-gpu", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert setting_sources.load({}, environ, None).settings.engine.tp == 4
    environ["TAKEOFF_TENSOR_PARALLEL"] = "2"
    assert setting_sources.load({}, environ, None).settings.engine.tp == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DEVICE", "api", "TAKEOFF_DEVICE=api is a model of another server"),
        ("DEVICE", "tpu", "TAKEOFF_DEVICE must be one of auto, cpu, cuda, not 'tpu'"),
        ("TENSOR_PARALLEL", "0", "TAKEOFF_TENSOR_PARALLEL must be an integer from 1 to 64"),
        ("MAX_BATCH_SIZE", "many", "TAKEOFF_MAX_BATCH_SIZE must be an integer"),
        ("CONSUMER_GROUP", "a b", "TAKEOFF_CONSUMER_GROUP must be a name of up to 64 letters"),
        ("QUANT_TYPE", "fp3", "TAKEOFF_QUANT_TYPE must be one of auto, int4, int8, none"),
        ("LOG_LEVEL", "loud", "TAKEOFF_LOG_LEVEL must be one of debug, error, info, warning"),
    ],
)
def test_wrong_value_is_refused_by_its_variable(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(**{name: value})
    assert words in str(refused.value)


def test_others_are_named_as_without_effect_in_one_line() -> None:
    loaded = load(REDIS_HOST="redis", NVLINK_UNAVAILABLE="1", PAGE_CACHE_SIZE="90%")
    assert loaded.notes == (
        "TAKEOFF_PAGE_CACHE_SIZE=90% has no effect here: give a number of bytes",
        "without effect here: TAKEOFF_NVLINK_UNAVAILABLE, TAKEOFF_REDIS_HOST",
    )
    [note] = load(MODEL_NAEM="x").notes
    assert note.endswith("has no effect; did you mean TAKEOFF_MODEL_NAME?")


def test_what_kubernetes_says_of_a_service_is_no_variable() -> None:
    loaded = load(
        SERVICE_HOST="10.0.0.1", SERVICE_PORT="3000", PORT="tcp://10.0.0.1:3000", PORT_3000_TCP="x"
    )
    assert loaded.notes == () and loaded.settings.server.port == 8000


def test_group_name_cannot_be_said_beside_a_list_of_groups(tmp_path: Path) -> None:
    path = tmp_path / "unisono.toml"
    path.write_text("[[groups]]\nname = 'a'\n")
    with pytest.raises(SettingsError, match="it is, by TAKEOFF_CONSUMER_GROUP"):
        load(path, CONSUMER_GROUP="b")


def test_refusals_that_name_flags_name_the_variables_instead() -> None:
    sources = {"max_model_len": "TAKEOFF_MAX_SEQUENCE_LENGTH", "tp": "--tp"}
    words = in_variables("--max-model-len 9 is too much for --tp 2", sources)
    assert words == "TAKEOFF_MAX_SEQUENCE_LENGTH 9 is too much for --tp 2"
