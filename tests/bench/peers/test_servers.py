"""What servers are told, without starting or installing one."""

from pathlib import Path

import pytest

from gateway.hub import default_model
from tests.bench.peers import llama_cpp, servers


def test_unisono_is_held_to_a_level_by_its_own_flag(tmp_path: Path) -> None:
    assert servers.unisono(tmp_path, "avx2").command[-2:] == ["--kernels", "avx2"]
    assert "--kernels" not in servers.unisono(tmp_path, "").command


def test_llama_cpp_loads_one_backend_at_a_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    program.write_text("")
    monkeypatch.setattr(llama_cpp, "build_llama_server", lambda: program)
    assert llama_cpp.server_of("") == (program, {})
    alone, variables = llama_cpp.server_of("avx2")
    assert alone.samefile(program) and alone.parent != program.parent
    assert variables == {"GGML_BACKEND_PATH": str(program.parent / "libggml-cpu-haswell.so")}
    assert llama_cpp.server_of("avx512")[0] == alone


def test_kv_bytes_come_from_the_file() -> None:
    # 30 layers, 3 heads of 64, keys and values of 2 bytes.
    assert servers.kv_bytes_of_token(default_model()) == 30 * 3 * 64 * 2 * 2
