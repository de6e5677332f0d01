"""`unisono bench sweep`: its grid, and what it refuses before anything is started."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from gateway.bench.sweep.results import Layout, Results
from gateway.cli import main
from gateway.commands import bench_sweep
from gateway.options import SettingsError


def test_grid_has_every_combination() -> None:
    settings = bench_sweep.load({"model": "a,b", "tp": "1,2", "quantization": "auto,int8"})
    layouts = bench_sweep.grid(settings)
    assert len(layouts) == 8
    assert layouts[:3] == [
        Layout("a"),
        Layout("a", tp=2),
        Layout("a", quantization="int8"),
    ]
    assert bench_sweep.grid(bench_sweep.load({})) == [Layout()]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"dtype": "auto,fp8"}, "--dtype must be a list separated by commas, each one of"),
        ({"tp": "0"}, "--tp must be a list"),
        ({"serve": "[]"}, "--serve must be a JSON object"),
        ({"serve": '{"kv_cache": 1}'}, "--serve: kv_cache is not a setting"),
        ({"serve": '{"kv_cache_bytes": "2 parsecs"}'}, "--serve: kv_cache_bytes must be"),
        ({"serve": '{"tp": 2}'}, "--serve: tp is for --tp to say"),
        ({"serve": '{"port": 80}'}, "--serve: port is for the sweep to say"),
        ({"results": "/no/such/file"}, "there is no such directory"),
    ],
)
def test_what_no_server_would_take_is_refused(flags: Mapping[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        bench_sweep.load(flags)


def test_file_of_another_sweep_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sweep.json"
    load = bench_sweep.load_of(bench_sweep.load({"max_tokens": "9"}))
    file.write_bytes(msgspec.json.encode(Results(load)))
    with pytest.raises(SystemExit):
        main(["bench", "sweep", "--results", str(file)])
    assert "was measured with max_tokens 9, not 128" in capsys.readouterr().err
