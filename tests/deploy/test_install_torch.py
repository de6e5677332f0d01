"""Which build of PyTorch is taken, and what is said before it is fetched."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy import install_torch

PINNED = "2.13.0"
PYTHON = "cp311-cp311-manylinux_2_28_x86_64"


class Pip:
    """A pip that knows no index, and finds wheels in a folder."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[list[str]] = []
        self._settings = f"global.find-links='{folder}'\nglobal.index-url='http://127.0.0.1:9'\n"

    def __call__(self, arguments: list[str], stdout: int | None = None) -> Any:
        self.calls.append(arguments)
        text = self._settings if arguments == ["config", "list"] else ""
        return subprocess.CompletedProcess(arguments, 0, text)

    @property
    def installs(self) -> list[list[str]]:
        return [call for call in self.calls if call[0] == "install"]


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    fake = Pip(tmp_path)
    monkeypatch.setattr(install_torch, "pip", fake)
    monkeypatch.setattr(install_torch, "is_installed", lambda: False)
    monkeypatch.setattr(install_torch, "sys_tags", lambda: tags())
    return fake


def tags() -> list[Any]:
    from pip._vendor.packaging.tags import parse_tag

    return [*parse_tag(PYTHON), *parse_tag("cp311-cp311-manylinux_2_17_x86_64")]


def there(monkeypatch: pytest.MonkeyPatch, *, device: bool, index: bool) -> None:
    monkeypatch.setattr(install_torch, "has_nvidia_device", lambda: device)
    monkeypatch.setattr(install_torch, "page", lambda url: "a page" if index else "")


@pytest.mark.parametrize("arguments", [[], ["--cpu"]])
@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("index", [False, True])
def test_pytorchs_own_index_serves_where_no_cuda_is_wanted(
    pip: Pip, monkeypatch: pytest.MonkeyPatch, arguments: list[str], device: bool, index: bool
) -> None:
    there(monkeypatch, device=device, index=index)
    assert install_torch.main(arguments) == 0
    [install] = pip.installs
    is_asked = index and (not device or bool(arguments))
    assert (install_torch.CPU_INDEX in install) == is_asked


def test_size_is_said_before_anything_is_fetched(
    pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, device=False, index=False)
    (tmp_path / f"torch-{PINNED}+cpu-{PYTHON}.whl").write_bytes(b"x" * 3_000_000)
    said: list[tuple[int, str]] = []
    monkeypatch.setattr(install_torch, "say", lambda text: said.append((len(pip.installs), text)))
    install_torch.main([])
    name = f"torch-{PINNED}+cpu-{PYTHON}.whl"
    assert said == [(0, f"PyTorch is fetched next: {name}, 3 MB")]


def test_nothing_is_done_where_pytorch_is_installed(
    pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_torch, "is_installed", lambda: True)
    assert install_torch.main([]) == 0
    assert pip.calls == []


@pytest.mark.usefixtures("pip")
def test_best_wheel_is_the_pinned_one_that_this_python_takes(tmp_path: Path) -> None:
    for name in (
        f"torch-{PINNED}-{PYTHON}.whl",
        f"torch-{PINNED}+cpu-{PYTHON}.whl",
        f"torch-{PINNED}+cpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        f"torch-9.0.0-{PYTHON}.whl",
        "torch-no-wheel.whl",
    ):
        (tmp_path / name).touch()
    wheel = install_torch.best_wheel([str(tmp_path)])
    assert wheel is not None and wheel[0] == f"torch-{PINNED}+cpu-{PYTHON}.whl"
    assert install_torch.best_wheel([str(tmp_path / "nowhere")]) is None


def test_wheels_of_a_page_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        f'<a href="../../files/torch-{PINNED}-{PYTHON}.whl#sha256=0">x</a> <a href="/torch/">y</a>'
    )
    monkeypatch.setattr(install_torch, "page", lambda url: text)
    [address] = install_torch.wheels("http://index/simple/torch/")
    assert address == f"http://index/files/torch-{PINNED}-{PYTHON}.whl"


def test_build_with_cuda_for_no_device_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_torch, "size_bytes", lambda url: 900_000_000)
    wheel = ("torch-2.whl", "http://index/torch-2.whl")
    text = install_torch.announcement(wheel, is_for_cpu=True)
    assert "900 MB" in text and "build with CUDA" in text
    assert "build with CUDA" not in install_torch.announcement(wheel, is_for_cpu=False)


def test_what_the_index_does_not_tell_is_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(install_torch, "size_bytes", lambda url: None)
    wheel = ("torch-2.whl", "http://index/torch-2.whl")
    assert "unknown size" in install_torch.announcement(wheel, is_for_cpu=True)
    assert "does not tell" in install_torch.announcement(None, is_for_cpu=True)


def test_device_files_show_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not install_torch.has_nvidia_device(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not install_torch.has_nvidia_device(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert install_torch.has_nvidia_device(tmp_path)


def test_address_that_cannot_be_reached_has_no_page() -> None:
    assert install_torch.page("http://127.0.0.1:9/torch/") == ""
    assert install_torch.page("no address") == ""
    assert install_torch.size_bytes("http://127.0.0.1:9/torch.whl") is None
