"""Turns what the operator calls a model into a path on this machine.

Owns the order of interpretation (default, path, hub name) and the words of every failure. Only
safetensors, GGUF and their configuration are ever fetched: no pickle, no code. Knows nothing of
what is inside the files. Called by `unisono serve` before any process is spawned.
"""

import os
from pathlib import Path
from typing import NoReturn

import msgspec

from gateway.default_model import ModelNotFound, cache_directory, default_model

__all__ = ["ModelNotFound", "cache_directory", "default_model", "is_hub_name", "resolve"]

_DEFAULT_NAMES = ("", "default", "smollm2")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "vocab.txt", "merges.txt"]
# Second copies of the same weights in other layouts, as large as the first.
_UNWANTED = ["consolidated*", "original/*", "onnx/*"]


class Repository(msgspec.Struct, frozen=True):
    """One repository on the hub and how it may be asked."""

    repo: str
    revision: str | None
    token: str | None
    offline: bool
    cache_dir: Path | None


def resolve(
    model: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> Path:
    """Return the file or directory that holds `model`, downloading it if that is needed.

    model: "" or "default"; a .gguf file or a directory; a hub name `org/name`; one file of a hub
    repository, `org/name:file.gguf` or `org/name/file.gguf`.
    cache_dir: the hub's cache; None for huggingface_hub's own choice (HF_HOME).
    progress: show a person how far a download is.
    Raises ModelNotFound.
    """
    if model in _DEFAULT_NAMES:
        return default_model(progress=progress)
    if not is_hub_name(model):
        return Path(os.path.abspath(os.path.expanduser(model)))
    repo, file = hub_parts(model)
    if not progress:
        _hide_progress()
    hub = Repository(repo, revision or None, token or None, offline, cache_dir)
    return _hub_file(hub, file) if file else _hub_directory(hub)


def _hide_progress() -> None:
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()


def is_hub_name(model: str) -> bool:
    """Tell whether `model` is looked for on the hub: it is no default name and no path here."""
    return model not in _DEFAULT_NAMES and not os.path.exists(os.path.expanduser(model))


def hub_parts(model: str) -> tuple[str, str]:
    """Split a hub name into repository and file ("" for all of it); refuse what is a path."""
    if model.startswith(("/", "./", "../", "~")) or model in (".", ".."):
        raise ModelNotFound(
            f"there is no file or directory {model} that can be read\n"
            "give a .gguf file, the directory of a model, or a hub name: org/name"
        )
    repo, _, file = model.partition(":")
    if not file:
        org, _, rest = repo.partition("/")
        name, _, file = rest.partition("/")
        repo = f"{org}/{name}"
    is_hub_name = all(part.strip() == part and part for part in repo.split("/"))
    is_file_name = file.endswith(".gguf") or not file
    if not is_hub_name or not is_file_name or repo.count("/") != 1 or repo.endswith(".gguf"):
        raise ModelNotFound(
            f"there is no file or directory {model}, and it is no name on the hub either\n"
            "a model is a .gguf file, a Hugging Face directory, org/name, or org/name:file.gguf"
        )
    return repo, file


def _hub_directory(hub: Repository) -> Path:
    # Imported late: it costs 0.2 s, and most starts never ask the hub.
    import huggingface_hub

    try:
        snapshot = huggingface_hub.snapshot_download(
            hub.repo,
            revision=hub.revision,
            token=hub.token,
            cache_dir=hub.cache_dir,
            local_files_only=hub.offline,
            allow_patterns=_WANTED,
            ignore_patterns=_UNWANTED,
        )
        directory = Path(snapshot)
        if any(directory.glob("*.safetensors")):
            return directory
        gguf_files = _gguf_files(hub, directory)
    except Exception as error:
        raise_in_words(error, hub, "")
    if len(gguf_files) == 1:
        return _hub_file(hub, gguf_files[0])
    if gguf_files:
        raise ModelNotFound(
            f"{hub.repo} has several GGUF files; name one, as in {hub.repo}:{gguf_files[0]}\n"
            f"it has: {_shortened(gguf_files)}"
        )
    raise ModelNotFound(
        f"{hub.repo} has no safetensors and no GGUF file; pickled weights (.bin, .pt) are not "
        "loaded, since they can run code"
    )


def _gguf_files(hub: Repository, snapshot: Path) -> list[str]:
    """Names of the repository's GGUF files: the cached ones when offline."""
    import huggingface_hub

    if hub.offline or huggingface_hub.constants.HF_HUB_OFFLINE:
        names = [str(path.relative_to(snapshot)) for path in snapshot.rglob("*.gguf")]
    else:
        names = huggingface_hub.list_repo_files(hub.repo, revision=hub.revision, token=hub.token)
    return sorted(name for name in names if name.endswith(".gguf"))


def _hub_file(hub: Repository, file: str) -> Path:
    import huggingface_hub

    try:
        downloaded = huggingface_hub.hf_hub_download(
            hub.repo,
            file,
            revision=hub.revision,
            token=hub.token,
            cache_dir=hub.cache_dir,
            local_files_only=hub.offline,
        )
    except Exception as error:
        raise_in_words(error, hub, file)
    return Path(downloaded)


def raise_in_words(error: Exception, hub: Repository, file: str) -> NoReturn:
    """Say a hub failure as the operator would; anything that is no hub failure passes through.

    The order matters: a gated repository is also a repository that is not found.
    """
    from huggingface_hub import constants, errors

    what = f"{hub.repo}:{file}" if file else hub.repo
    at_revision = f" at revision {hub.revision}" if hub.revision else ""
    match error:
        case errors.GatedRepoError():
            words = (
                f"{hub.repo} is gated: accept its terms on its page, then pass a token that may "
                "read it with HF_TOKEN (or --hf-token)"
            )
        case errors.RepositoryNotFoundError():
            words = (
                f"there is no model {hub.repo} on the hub, and no file or directory of that name "
                "here\nif it is private, pass a token that may read it with HF_TOKEN "
                "(or --hf-token)"
            )
        case errors.RevisionNotFoundError():
            words = f"{hub.repo} has no revision {hub.revision}"
        case errors.LocalEntryNotFoundError() if hub.offline or constants.HF_HUB_OFFLINE:
            words = (
                f"{what}{at_revision} is not (or not wholly) in the local cache, and the hub may "
                "not be asked\nstart once without --offline and HF_HUB_OFFLINE"
            )
        case errors.LocalEntryNotFoundError():
            words = (
                f"the hub cannot be reached, and {what}{at_revision} is not (or not wholly) in the "
                f"local cache\n{_first_line(error)}\n"
                "check the network and HF_ENDPOINT, or give the path of a model that is here"
            )
        case errors.EntryNotFoundError():
            words = f"{hub.repo} has no file {file}{at_revision}"
        case errors.HFValidationError():
            words = f"{hub.repo} is no name on the hub: {_first_line(error)}"
        case _ if isinstance(error, _download_errors()):
            # Refused tokens, failing proxies, a full disk: all of them name their cause.
            words = f"{what} could not be downloaded: {_first_line(error)}"
        case _:
            raise error
    raise ModelNotFound(words) from error


def _download_errors() -> tuple[type[Exception], ...]:
    """OSError, and the base error of whichever HTTP client this huggingface_hub is built on."""
    from huggingface_hub import errors

    return (*errors.HfHubHTTPError.__bases__, errors.XetDownloadError)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _shortened(names: list[str], shown: int = 12) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
