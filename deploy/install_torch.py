"""Installs the build of PyTorch that serves this machine best, before anything else asks for one.

`python deploy/install_torch.py [--cpu]`, with the Python of the environment to install into. Where
no NVIDIA device is, or with --cpu, that is the build without CUDA, a tenth of the size: from
PyTorch's own index if it can be reached, else whatever pip's index gives. What is to be fetched is
said, with its size, before anything is: pip's own dry run would fetch it to tell. Does nothing
where PyTorch is installed. Needs the standard library and pip alone.
"""

import http.client
import re
import shutil
import subprocess
import sys
import urllib.request
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from pip._vendor.packaging.tags import sys_tags
from pip._vendor.packaging.utils import InvalidWheelFilename, parse_wheel_filename
from pip._vendor.packaging.version import Version

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PYPI = "https://pypi.org/simple"
CONSTRAINTS = Path(__file__).parent / "constraints.txt"
# An index that does not answer in so long is not there.
TIMEOUT_S = 5
# Above this it is the build with CUDA: the one without has 200 MB.
LARGE_BYTES = 400_000_000


def main(arguments: list[str]) -> int:
    """Install PyTorch unless it is there; return an exit status."""
    if is_installed():
        return 0
    options = ["--constraint", str(CONSTRAINTS)]
    is_for_cpu = "--cpu" in arguments or not has_nvidia_device()
    if is_for_cpu and page(f"{CPU_INDEX}/torch/"):
        # An extra one: it lacks other packages, and its +cpu counts as the later of equal versions.
        options += ["--extra-index-url", CPU_INDEX]
    say(announcement(best_wheel(places(options)), is_for_cpu=is_for_cpu))
    return pip(["install", *options, "torch"]).returncode


def is_installed() -> bool:
    """Say whether the environment has PyTorch, whichever build."""
    try:
        metadata.version("torch")
    except metadata.PackageNotFoundError:
        return False
    return True


def has_nvidia_device(devices: Path = Path("/dev")) -> bool:
    """Say whether the driver shows a device, or nvidia-smi lists one."""
    if any(devices.glob("nvidia[0-9]*")):
        return True
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def places(options: list[str]) -> list[str]:
    """Return where pip will look for wheels: pages of indexes, and folders.

    options: of pip install. pip's own settings are asked for the rest.
    """
    settings = pip(["config", "list"], stdout=subprocess.PIPE).stdout
    found = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", settings, re.MULTILINE))
    indexes = [found.get("index-url", PYPI), *found.get("extra-index-url", "").split()]
    indexes += [word for word in options if word.startswith("http")]
    folders = found.get("find-links", "").split()
    return [*folders, *(f"{index.rstrip('/')}/torch/" for index in indexes)]


def best_wheel(where: list[str]) -> tuple[str, str] | None:
    """Return name and address of the wheel that pip will take; None where none is seen.

    It is the latest that this Python takes and the constraints allow.
    """
    tags = {tag: rank for rank, tag in enumerate(reversed(list(sys_tags())))}
    pinned = re.search(r"^torch==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    found: list[tuple[Version, int, str, str]] = []
    for address in [address for place in where for address in wheels(place)]:
        name = unquote(urlsplit(address).path.rpartition("/")[2])
        try:
            _, version, _, supported = parse_wheel_filename(name)
        except InvalidWheelFilename:
            continue
        rank = max((tags[tag] for tag in supported if tag in tags), default=-1)
        if rank >= 0 and (pinned is None or version.public == pinned[1]):
            found.append((version, rank, name, address))
    return max(found)[2:] if found else None


def wheels(place: str) -> list[str]:
    """Return the addresses of torch's wheels on a page of an index, or in a folder."""
    path = Path(unquote(urlsplit(place).path)) if not place.startswith("http") else None
    if path is not None:
        return [file.absolute().as_uri() for file in path.glob("torch-*.whl")]
    links = re.findall(r'href="([^"#]+/?torch-[^"#/]+\.whl)', page(place))
    return [urljoin(place, link) for link in links]


def page(url: str) -> str:
    """Return a page; nothing where no server has it."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return str(response.read().decode())
    except (OSError, ValueError, http.client.HTTPException):
        return ""


def size_bytes(url: str) -> int | None:
    """Return the size of a file, here or on a server; None if it is not to be known."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "file":
            return Path(unquote(parts.path)).stat().st_size
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            length = response.headers.get("content-length")
            return int(length) if length else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def announcement(wheel: tuple[str, str] | None, *, is_for_cpu: bool) -> str:
    """Say what is about to be fetched."""
    if wheel is None:
        return "PyTorch is fetched next; its index does not tell which build that is"
    name, address = wheel
    size = size_bytes(address)
    told = f"{size / 1e6:,.0f} MB" if size is not None else "of unknown size"
    text = f"PyTorch is fetched next: {name}, {told}"
    if is_for_cpu and (size or 0) > LARGE_BYTES:
        text += (
            "\nThis is the build with CUDA, though no NVIDIA device is here: there is no other."
            "\nIts CUDA libraries come on top, some 3 GB. To stop, press Ctrl-C."
            f"\nThe build for CPUs is at {CPU_INDEX}"
        )
    return text


def pip(arguments: list[str], stdout: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the pip of this environment."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stdout=stdout, text=True, check=False)


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
