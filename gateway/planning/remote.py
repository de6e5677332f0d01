"""What a hub has of a model, without its weights: config.json, or the front of a GGUF file.

Asks the hub as gateway/hub.py does, with the same words for every failure. Of a GGUF file ranges
are asked for until its header is whole; weights are a hole in the file that is left.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from backend.config.errors import ModelError
from backend.config.gguf import TABLES
from backend.config.gguf_header import GGUFHeader, read_header
from backend.config.hf_directory import read_json
from gateway.default_model import ModelNotFound
from gateway.hub import Repository, raise_in_words

# Headers are 1 to 12 MB: vocabulary and merges.
FIRST_BYTES = 4 << 20
_GROWTH = 4


def fetch_config(repository: Repository) -> dict[str, Any]:
    """Return config.json of a repository, of the hub's cache if it is there. Raises ModelNotFound,
    ModelError."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name = "config.json"
    cached = huggingface_hub.try_to_load_from_cache(
        repository.repo, name, cache_dir=repository.cache_dir, revision=repository.revision
    )
    if isinstance(cached, str):
        return read_json(Path(cached), dict[str, Any])
    try:
        remote = _RemoteFile(repository, name)
        with tempfile.TemporaryDirectory(prefix="unisono-plan-") as directory:
            path = Path(directory) / name
            path.write_bytes(remote.read(0, remote.size))
            return read_json(path, dict[str, Any])
    except LocalEntryNotFoundError as error:
        raise_in_words(error, repository, name)
    except EntryNotFoundError as error:
        raise ModelNotFound(
            f"{repository.repo} has no config.json; of a repository of GGUF files name one: "
            f"{repository.repo}:file.gguf"
        ) from error
    except ModelError:
        raise
    except Exception as error:
        raise_in_words(error, repository, name)


def fetch_front(repository: Repository, file: str, directory: Path) -> Path:
    """Leave the front of a GGUF file, and of the others it is split into, in a directory; return
    the first. Raises ModelNotFound, ModelError."""
    path = directory / Path(file).name
    header = _fetch(repository, file, path)
    count = header.metadata.get("split.count", 1)
    if isinstance(count, int) and count > 1:
        for number in range(2, count + 1):
            other = file.replace(f"-00001-of-{count:05}", f"-{number:05}-of-{count:05}")
            _fetch(repository, other, directory / Path(other).name)
    return path


def _fetch(repository: Repository, file: str, path: Path) -> GGUFHeader:
    size = FIRST_BYTES
    try:
        remote = _RemoteFile(repository, file)
        while True:
            path.write_bytes(remote.read(0, size))
            if size >= remote.size or _is_whole(path):
                break
            size *= _GROWTH
        os.truncate(path, max(remote.size, path.stat().st_size))
        header = read_header(path)
        with path.open("r+b") as front:
            for name in header.tensors.keys() & TABLES.keys():
                tensor = header.tensors[name]
                front.seek(tensor.offset)
                front.write(remote.read(tensor.offset, tensor.num_bytes))
    except ModelError:
        raise
    except Exception as error:
        raise_in_words(error, repository, file)
    return header


def _is_whole(path: Path) -> bool:
    """Whether the front of a file has all of its header."""
    try:
        read_header(path)
    except ModelError as error:
        return "its header runs past" not in str(error)
    return True


class _RemoteFile:
    """A file of a repository; ranges of it are read with one request each."""

    def __init__(self, repository: Repository, file: str) -> None:
        """Raises an error of huggingface_hub: LocalEntryNotFoundError where no hub is reached."""
        from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

        if repository.offline or _is_offline():
            raise errors.LocalEntryNotFoundError(file)
        self._url = hf_hub_url(repository.repo, file, revision=repository.revision)
        self._token = repository.token
        try:
            found = get_hf_file_metadata(self._url, token=self._token)
        except errors.HfHubHTTPError:
            raise  # the hub's own answer
        except Exception as error:
            # The errors of its HTTP client and of the system: nobody answered.
            if isinstance(error, errors.HfHubHTTPError.__bases__):
                raise errors.LocalEntryNotFoundError(str(error)) from error
            raise
        self.size = int(found.size or 0)

    def read(self, start: int, count: int) -> bytes:
        """Return bytes from `start` on, fewer where the file ends."""
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import get_session, hf_raise_for_status

        end = min(start + count, self.size) - 1
        headers = build_hf_headers(token=self._token)
        headers |= {"Range": f"bytes={start}-{end}", "Accept-Encoding": "identity"}
        response = get_session().get(self._url, headers=headers, follow_redirects=True)
        hf_raise_for_status(response)
        content: bytes = response.content
        # A server that knows no ranges sends all of it.
        return content[start : end + 1] if response.status_code == 200 else content


def _is_offline() -> bool:
    """Whether the environment says that no hub may be asked."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
