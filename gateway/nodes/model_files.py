"""A model's files on a node: found or fetched there, and the same as the supervisor's.

Called in an agent before it starts a rank, and in the supervisor, which has the model, too.
"""

import hashlib
import os
from pathlib import Path

from backend.config.errors import ModelError
from gateway import hub

# Both ends of a file: the header, with every tensor's name and place, and the last tensors. All
# bytes of a model of 200 GB would take minutes at each start.
SAMPLED_BYTES = 1 << 20


def model_on_node(name: str, digest: str, node: str) -> Path:
    """Return where a model lies on this node; what has a name and no path is fetched once.

    name: as the operator gave it. digest: of the supervisor's files. Raises ModelError.
    """
    try:
        path = hub.resolve(name, progress=False)
    except hub.ModelNotFound as error:
        raise ModelError(
            f"node {node} has no model {name!r}: {error}\n"
            "put its files at the same path on every node, or name a model that nodes can fetch"
        ) from error
    if not path.exists():
        raise ModelError(
            f"node {node} has no {path}\n"
            "put the model's files at the same path on every node, or name one that can be fetched"
        )
    if (here := model_digest(path)) != digest:
        raise ModelError(
            f"node {node} has other files at {path} than the supervisor: "
            f"digest {here[:12]}, not {digest[:12]}\ncopy the same model to every node"
        )
    return path


def model_digest(path: Path) -> str:
    """Hash the names, sizes and both ends of a model's files, hexadecimal."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        if path.is_dir() and file.suffix not in (".json", ".safetensors", ".gguf", ".model"):
            continue
        size = file.stat().st_size
        # A single file may have another name elsewhere.
        digest.update(f"{file.name if path.is_dir() else ''}\0{size}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(SAMPLED_BYTES))
            stream.seek(max(SAMPLED_BYTES, size - SAMPLED_BYTES), os.SEEK_SET)
            digest.update(stream.read(SAMPLED_BYTES))
    return digest.hexdigest()
