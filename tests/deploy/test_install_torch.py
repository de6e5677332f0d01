"""Which build of PyTorch is taken, and what is said before it is fetched."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy import install_torch


class Pip:
    """A pip whose index has one build of PyTorch, in a file of a given size."""

    def __init__(self, path: Path) -> None:
        self.calls: list[list[str]] = []
        self._path = path

    def __call__(self, arguments: list[str], stdout: int | None = None) -> Any:
        self.calls.append(arguments)
        about = {"name": "torch", "version": "2.13.0"}
        item = {"metadata": about, "download_info": {"url": self._path.as_uri()}}
        text = json.dumps({"install": [item]}) if stdout is not None else ""
        return subprocess.CompletedProcess(arguments, 0, text)

    @property
    def indexes(self) -> list[list[str]]:
        return [[word for word in call if word.startswith("http")] for call in self.calls]


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    wheel = tmp_path / "torch 2.13.whl"
    wheel.write_bytes(b"x" * 3_000_000)
    fake = Pip(wheel)
    monkeypatch.setattr(install_torch, "pip", fake)
    monkeypatch.setattr(install_torch, "is_installed", lambda: False)
    return fake


def there(monkeypatch: pytest.MonkeyPatch, *, device: bool, index: bool) -> None:
    monkeypatch.setattr(install_torch, "has_nvidia_device", lambda: device)
    monkeypatch.setattr(install_torch, "answers", lambda url: index)


def test_pytorchs_own_index_is_asked_where_no_device_is(
    pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, device=False, index=True)
    assert install_torch.main([]) == 0
    assert pip.indexes == [[install_torch.CPU_INDEX]] * 2


@pytest.mark.parametrize(("device", "index"), [(True, True), (True, False), (False, False)])
def test_pips_own_index_serves_otherwise(
    pip: Pip, monkeypatch: pytest.MonkeyPatch, device: bool, index: bool
) -> None:
    there(monkeypatch, device=device, index=index)
    assert install_torch.main([]) == 0
    assert pip.indexes == [[], []]


def test_cpu_build_can_be_asked_for_beside_a_device(
    pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, device=True, index=True)
    install_torch.main(["--cpu"])
    assert pip.indexes == [[install_torch.CPU_INDEX]] * 2


def test_size_is_said_before_anything_is_fetched(
    pip: Pip, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there(monkeypatch, device=False, index=False)
    said: list[str] = []
    monkeypatch.setattr(install_torch, "say", lambda text: said.append(f"{len(pip.calls)} {text}"))
    install_torch.main([])
    assert said[-1] == "1 torch 2.13.0 and what it needs, 3 MB in 1 files"
    assert "--dry-run" in pip.calls[0] and "--dry-run" not in pip.calls[1]


def test_nothing_is_done_where_pytorch_is_installed(
    pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_torch, "is_installed", lambda: True)
    assert install_torch.main([]) == 0
    assert pip.calls == []


def test_build_with_cuda_for_no_device_is_said_to_be_one() -> None:
    files: list[tuple[str, int | None]] = [("torch 2.13.0", 900_000_000), ("nvidia-x 1", 10**9)]
    text = install_torch.announcement(files, is_for_cpu=True)
    assert "1,900 MB in 2 files" in text and "build with CUDA" in text
    assert "build with CUDA" not in install_torch.announcement(files, is_for_cpu=False)


def test_unknown_sizes_make_the_sum_a_least_one() -> None:
    files: list[tuple[str, int | None]] = [("torch 2.13.0", 200_000_000), ("sympy 1", None)]
    assert "at least 200 MB" in install_torch.announcement(files, is_for_cpu=True)
    assert "pip tries" in install_torch.announcement([], is_for_cpu=True)


def test_device_files_show_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not install_torch.has_nvidia_device(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not install_torch.has_nvidia_device(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert install_torch.has_nvidia_device(tmp_path)


def test_address_that_cannot_be_reached_does_not_answer() -> None:
    assert not install_torch.answers("http://127.0.0.1:9/torch/")
    assert not install_torch.answers("no address")
    assert install_torch.size_bytes("http://127.0.0.1:9/torch.whl") is None
