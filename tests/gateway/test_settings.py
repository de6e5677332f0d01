"""Where a value comes from, which one wins, and what is refused in whose words."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from backend.settings import EngineSettings
from gateway import setting_sources
from gateway.commands.config import as_json_text, as_toml, compute_comment, sampling_comment
from gateway.options import SettingsError
from gateway.settings import ServerSettings, Settings, setting_options


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "unisono.toml"
    path.write_text(text)
    return path


def load(flags: Mapping[str, object], environ: Mapping[str, str], path: Path | None) -> Settings:
    return setting_sources.load(flags, environ, path).settings


def test_nothing_given_means_the_defaults() -> None:
    assert load({}, {}, None) == Settings(ServerSettings(), EngineSettings())


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = 1\nhost = 'file'\n[engine]\ntp = 2\ndp = 3\n")
    settings = load({"port": "3"}, {"UNISONO_PORT": "2", "UNISONO_TP": "4"}, path)
    assert settings.server.port == 3
    assert settings.engine.tp == 4
    assert (settings.server.host, settings.engine.dp) == ("file", 3)


def test_text_is_read_as_the_type_of_its_field() -> None:
    environ = {
        "UNISONO_EXACT": "true",
        "UNISONO_PREFIX_CACHING": "0",
        "UNISONO_DRAIN_SECONDS": " 2.5 ",
        "UNISONO_SERVED_MODEL_NAME": "one, two",
        "UNISONO_DTYPE": "float32",
    }
    settings = load({}, environ, None)
    assert (settings.engine.exact, settings.engine.prefix_caching) == (True, False)
    assert settings.server.drain_seconds == 2.5
    assert settings.server.served_model_name == ("one", "two")
    assert settings.engine.dtype == "float32"


def test_file_values_have_toml_types(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nserved_model_name = ['a', 'b']\ndrain_seconds = 5\n")
    server = load({}, {}, path).server
    assert (server.served_model_name, server.drain_seconds) == (("a", "b"), 5.0)


def test_empty_variable_counts_as_unset() -> None:
    assert load({}, {"UNISONO_PORT": ""}, None) == Settings()


def test_other_variables_are_left_alone() -> None:
    environ = {
        "PATH": "/bin",
        "UNISONO_CACHE": "/cache",
        "UNISONO_API_KEY": "sk-1",
        "UNISONO_PORT": "tcp://10.0.0.1:8000",
        "UNISONO_SERVICE_HOST": "10.0.0.1",
        "UNISONO_SERVICE_PORT_HTTP": "8000",
        "UNISONO_PORT_8000_TCP_ADDR": "10.0.0.1",
        "UNISONO_METRICS_PORT": "tcp://10.0.0.2:9000",
    }
    assert load({}, environ, None) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("UNISONO_PORT", "http", "UNISONO_PORT must be an integer from 0 to 65535, not 'http'"),
        ("UNISONO_PORT", "65536", "an integer from 0 to 65535, not '65536'"),
        ("UNISONO_THREADS", "-1", "UNISONO_THREADS must be an integer of 0 or more, not '-1'"),
        ("UNISONO_DRAIN_SECONDS", "nan", "a number from 0 to 86400, not 'nan'"),
        ("UNISONO_EXACT", "perhaps", "UNISONO_EXACT must be true or false, not 'perhaps'"),
        ("UNISONO_DEVICE", "tpu", "UNISONO_DEVICE must be one of auto, cpu, cuda, not 'tpu'"),
        (
            "UNISONO_DEVICES",
            "cuda:0,gpu",
            "separated by commas, each cpu, cuda, cuda:N or auto, not",
        ),
        ("UNISONO_OTEL_ENDPOINT", "host:4318", "must be a URL, as in http://host:4318/v1/traces"),
        ("UNISONO_SERVED_MODEL_NAME", "a,,b", "a list separated by commas, each text that is not"),
        ("UNISONO_OVERRIDE_GENERATION_CONFIG", "0.5", r"a JSON object, as in {.*}, not '0.5'$"),
        ("UNISONO_OVERRIDE_GENERATION_CONFIG", "{", r"a JSON object, as in {.*}, not '{'$"),
        ("UNISONO_OVERRIDE_GENERATION_CONFIG", '{"temp": 1}', "contains unknown field `temp`"),
        ("UNISONO_OVERRIDE_GENERATION_CONFIG", '{"top_p": 3}', r"<= 1.0 - at `\$.top_p`"),
        ("UNISONO_MAX_SEQS", "1", "is not a setting; did you mean UNISONO_MAX_NUM_SEQS"),
        ("UNISONO_ZZZ", "1", "UNISONO_ZZZ is not a setting$"),
    ],
)
def test_refused_variable_is_named_with_what_is_allowed(
    variable: str, text: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load({}, {variable: text}, None)


def test_refused_flag_is_named_as_it_was_typed() -> None:
    with pytest.raises(SettingsError, match=r"^--max-num-seqs must be an integer from 1 to 4096"):
        load({"max_num_seqs": "0"}, {}, None)


def test_wrong_value_is_refused_even_where_another_wins() -> None:
    with pytest.raises(SettingsError, match="UNISONO_PORT"):
        load({"port": "1"}, {"UNISONO_PORT": "x"}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "prot is not a setting; did you mean port"),
        ("[server]\nport = '80'", "port must be an integer from 0 to 65535, not '80'"),
        ("[server]\nport = true", "port must be an integer"),
        ("[server]\ntp = 2", r"tp belongs under \[engine\], not \[server\]"),
        ("port = 1", r"port belongs under \[server\]"),
        ("[sever]\nport = 1", r"sever is not a table .* \[server\] and \[engine\]"),
        ("server = 1", "server is not a table"),
        ("[server\n", "not a TOML file"),
    ],
)
def test_refused_file_key_is_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=rf"unisono\.toml(:\d+)?:? .*{message}"):
        load({}, {}, write(tmp_path, text))


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml cannot be read: No such file"):
        load({}, {}, tmp_path / "no.toml")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "unisono.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not a TOML file"):
        load({}, {}, path)


def test_no_name_stands_for_two_settings() -> None:
    names = [option.name for table in setting_options().values() for option in table]
    assert len(names) == len(set(names))


def test_every_setting_is_described_and_its_default_is_allowed() -> None:
    for table in setting_options().values():
        for option in table:
            assert option.description, option.name
            assert option.read(option.default, option.flag) == option.default


def test_every_value_names_its_source(tmp_path: Path) -> None:
    path = write(tmp_path, "# port = 5\n[server]\nhost = 'file'\n\n[engine]\n  dp = 3\n")
    loaded = setting_sources.load({"port": "3"}, {"UNISONO_TP": "4"}, path)
    sources = {name: source for name, source in loaded.sources.items() if source != "default"}
    assert sources == {
        "host": f"{path}:3",
        "dp": f"{path}:6",
        "tp": "UNISONO_TP",
        "port": "--port",
    }


def test_takeoffs_variables_are_understood_below_our_own(tmp_path: Path) -> None:
    environ = {
        "TAKEOFF_MODEL_NAME": "org/theirs",
        "TAKEOFF_ACCESS_TOKEN": "hf_x",
        "TAKEOFF_BACKEND": "multi-gpu",
        "TAKEOFF_MAX_BATCH_SIZE": "8",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "UNISONO_MODEL": "org/ours",
    }
    path = write(tmp_path, "[engine]\nmodel = 'org/file'\ntp = 4\n")
    loaded = setting_sources.load({}, environ, path)
    server, engine = loaded.settings.server, loaded.settings.engine
    assert (engine.model, server.hf_token, engine.tp) == ("org/ours", "hf_x", 2)
    assert loaded.sources["tp"] == "TAKEOFF_BACKEND=multi-gpu, CUDA_VISIBLE_DEVICES=0,1"
    del environ["UNISONO_MODEL"]
    assert load({}, environ, path).engine.model == "org/theirs"
    for nothing in ({"CUDA_VISIBLE_DEVICES": "0,1"}, {"TAKEOFF_BACKEND": "multi-gpu"}):
        assert load({}, nothing, None) == Settings()
    with pytest.raises(SettingsError, match=r"TAKEOFF_BACKEND must be one of awq, .* not 'many'"):
        load({}, {"TAKEOFF_BACKEND": "many"}, None)


def test_config_is_shown_as_a_file_that_sets_the_same(tmp_path: Path) -> None:
    flags = {"served_model_name": "a,b", "hf_token": "hf_secret", "drain_seconds": "2.5"}
    flags["override_generation_config"] = '{"temperature": 0.5, "top_k": 3}'
    flags["default_chat_template_kwargs"] = '{"a": false, "b c": {"d": ["e", {"f": 1}]}}'
    loaded = setting_sources.load(flags, {}, None)
    text = as_toml(loaded)
    assert "hf_secret" not in text and "hf_secret" not in as_json_text(loaded)
    assert 'served_model_name = ["a", "b"]' in text and "# --served-model-name" in text
    parsed = tomllib.loads(text)
    assert parsed["server"].pop("hf_token") == "(set)"
    again = load({}, {}, write(tmp_path, text.replace('"(set)"', '"hf_secret"')))
    assert again == loaded.settings
    shown = json.loads(as_json_text(loaded))
    assert shown["server"]["drain_seconds"] == {"value": 2.5, "source": "--drain-seconds"}
    assert shown["engine"]["tp"] == {"value": 1, "source": "default"}


def test_config_with_a_list_of_groups_can_be_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, "[[groups]]\nranks = 2\n[[groups]]\nthreads = 3\n")
    loaded = setting_sources.load({}, {}, path)
    assert load({}, {}, write(tmp_path, as_toml(loaded))) == loaded.settings


def test_config_says_what_requests_have_that_do_not_say(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.5}')
    loaded = setting_sources.load({"model": str(tmp_path)}, {}, None)
    assert sampling_comment(loaded).startswith("# sampling: temperature 0.5 (generation_config")
    plain = setting_sources.load({"model": str(tmp_path), "generation_config": "none"}, {}, None)
    assert sampling_comment(plain) == (
        "# sampling: as OpenAI has it, where a request does not say\n\n"
    )
    (tmp_path / "generation_config.json").write_text('{"temperature": -1}')
    assert "# --generation-config none serves without" in sampling_comment(loaded)
    assert not sampling_comment(setting_sources.load({"model": "org/name"}, {}, None))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, ["# on a CPU: avx512_vnni, mixed activations"]),
        ({"kernels": "torch"}, ["# on a CPU: PyTorch's kernels (--kernels torch)"]),
        (
            {"kernels": "amx"},
            [
                "# on a CPU: --kernels amx: this processor has no such level",
                "# it has avx512_vnni, avx2",
                "# name one of them, or leave --kernels out: the best serves",
            ],
        ),
    ],
)
def test_config_says_what_a_cpu_would_compute_with(
    flags: dict[str, object], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.native.levels", lambda: ["avx512_vnni", "avx2"])
    assert compute_comment(setting_sources.load(flags, {}, None)).splitlines() == [*words, ""]
