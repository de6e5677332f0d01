"""What MODEL means to a plan: a path here, a name of the catalogue, or one on the hub.

Reads config.json or the header of a GGUF file and nothing else. A name of the catalogue goes before
the hub, which then is not asked. Whether weights are here, does not matter.
"""

import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from backend.config.errors import ModelError
from backend.config.hf_directory import read_json
from backend.config.huggingface import config_of_fields
from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.placement.known_weights import DescribedWeights, HeaderWeights, KnownWeights
from gateway.default_model import FILE_NAME, cache_directory
from gateway.hub import ModelNotFound, Repository, hub_parts, is_hub_name
from gateway.planning.catalogue import CatalogueEntry, find_entry, nearest_names
from gateway.planning.remote import fetch_config, fetch_front

_DEFAULT_NAME = "SmolLM2-135M"


@dataclass(frozen=True, slots=True)
class HubAccess:
    """How the hub may be asked."""

    revision: str = ""
    token: str = ""
    offline: bool = False


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model to plan for. source: where its shape is from. entry: of the catalogue, if so."""

    config: ModelConfig
    stored: KnownWeights
    source: str
    entry: CatalogueEntry | None = None

    @property
    def name(self) -> str:
        return self.entry.name if self.entry else self.config.name

    @property
    def num_parameters(self) -> int:
        """Numbers in all of its tensors that are served."""
        return sum(
            kind.num_alike * prod(kind.info.shape) for kind in self.stored.kinds(self.config)
        )


def find_model(model: str, access: HubAccess = HubAccess()) -> FoundModel:
    """Return what a plan needs to know of a model. Raises ModelNotFound, ModelError."""
    if model in ("", "default"):
        path = cache_directory() / FILE_NAME
        model = str(path) if path.exists() else _DEFAULT_NAME
    path = Path(model).expanduser()
    if not is_hub_name(model):
        return _local(path)
    if entry := find_entry(model):
        config = config_of_fields(entry.config, entry.name)
        stored = DescribedWeights(entry.config, config)
        return FoundModel(config, stored, "the built-in catalogue", entry)
    return _on_hub(model, access)


def _local(path: Path) -> FoundModel:
    if path.is_dir():
        fields = read_json(path / "config.json", dict[str, Any]) if _has_config(path) else {}
        if any(path.glob("*.safetensors")) or not fields:
            config = load_config(path, "unisono")
        else:
            config = config_of_fields(fields, path.name)
        return FoundModel(config, DescribedWeights(fields, config), str(path / "config.json"))
    if path.suffix == ".json":
        fields = read_json(path, dict[str, Any])
        config = config_of_fields(fields, path.parent.name)
        return FoundModel(config, DescribedWeights(fields, config), str(path))
    config = load_config(path)
    return FoundModel(config, HeaderWeights(path, config), f"the header of {path}")


def _has_config(directory: Path) -> bool:
    return (directory / "config.json").exists()


def _on_hub(model: str, access: HubAccess) -> FoundModel:
    try:
        repo, file = hub_parts(model)
    except ModelNotFound as error:
        raise ModelNotFound(_unknown(model)) from error
    revision, token = access.revision or None, access.token or None
    repository = Repository(repo, revision, token, access.offline, None)
    if not file:
        fields = _config_on_hub(repository)
        config = config_of_fields(fields, repo)
        return FoundModel(config, DescribedWeights(fields, config), f"config.json of {repo}")
    with tempfile.TemporaryDirectory(prefix="unisono-plan-") as directory:
        path = fetch_front(repository, file, Path(directory))
        try:
            config = msgspec.structs.replace(load_config(path), name=repo)
        except ModelError as error:
            raise ModelError(str(error).replace(str(path), f"{repo}:{file}")) from None
        return FoundModel(config, HeaderWeights(path, config), f"the header of {repo}:{file}")


def _config_on_hub(repository: Repository) -> dict[str, Any]:
    try:
        return fetch_config(repository)
    except ModelNotFound as error:
        if near := nearest_names(repository.repo):
            words = f"{error}\nthe built-in catalogue has {', '.join(near)}"
            raise ModelNotFound(words) from error
        raise


def _unknown(model: str) -> str:
    near = nearest_names(model)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return (
        f"there is no file or directory {model}, and the catalogue has no such name{meant}\n"
        "`unisono plan --list` shows its names; others are a .gguf file, a directory with "
        "config.json,\nor org/name on the hub"
    )
