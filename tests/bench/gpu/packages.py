"""Which packages an interpreter lacks for the benchmark, and where it may borrow them.

The interpreter is one that has PyTorch with CUDA; it need not have all that Unisono needs. Where
the project's .venv is of the same Python, what the interpreter lacks is taken from there, behind
all of its own, so that its PyTorch stays the one that is used. Imports nothing of ours.
"""

import os
import sys
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "triton", "numpy", "msgspec", "safetensors", "gguf", "tokenizers")
ROOT = Path(__file__).parents[3]


def borrow(root: Path = ROOT) -> Path | None:
    """Append the packages of the project's .venv to the path of this process and of those it
    starts; return where they are, or None if there are none of this Python."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = root / ".venv" / "lib" / version / "site-packages"
    if not packages.is_dir():
        return None
    if str(packages) not in sys.path:
        sys.path.append(str(packages))
    return packages


def missing(names: tuple[str, ...]) -> list[str]:
    """Return those that cannot be imported."""
    return [name for name in names if find_spec(name) is None]


def name_ourselves(directory: Path, root: Path = ROOT) -> None:
    """Have processes that are started from now on find our name and version, as if we were
    installed: a server tells them, and dies where it cannot. directory: what says so is put there.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    try:
        metadata.version(name)
        return
    except metadata.PackageNotFoundError:
        pass
    info = directory.resolve() / f"{name}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    os.environ["PYTHONPATH"] = os.pathsep.join([*_python_path(), str(info.parent)])


def environment() -> dict[str, str]:
    """Return the environment of a process of ours that sees the tree; it borrows by itself."""
    path = os.pathsep.join([str(ROOT), *_python_path()])
    return os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
