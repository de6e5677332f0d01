"""Installs the build of PyTorch that serves this machine best, before anything else asks for one.

`python deploy/install_torch.py [--cpu]`, with the Python of the environment to install into. Where
no NVIDIA device is, or with --cpu, that is the build without CUDA, a tenth of the size: from
PyTorch's own index if it can be reached, else whatever pip's index gives. What is to be fetched is
said, with its size, before it is. Does nothing where PyTorch is installed. Needs the standard
library and pip alone.
"""

import http.client
import json
import shutil
import subprocess
import sys
import urllib.request
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CONSTRAINTS = Path(__file__).parent / "constraints.txt"
# An index that does not answer in so long is not there.
TIMEOUT_S = 5
# Above this it is the build with CUDA and its libraries: the one without has 200 MB.
LARGE_BYTES = 1_000_000_000


def main(arguments: list[str]) -> int:
    """Install PyTorch unless it is there; return an exit status."""
    if is_installed():
        return 0
    options = ["--constraint", str(CONSTRAINTS)]
    is_for_cpu = "--cpu" in arguments or not has_nvidia_device()
    if is_for_cpu and answers(f"{CPU_INDEX}/torch/"):
        # An extra one: it lacks other packages, and its +cpu counts as the later of equal versions.
        options += ["--extra-index-url", CPU_INDEX]
    say("asking the package index for PyTorch ...")
    say(announcement(to_fetch(options), is_for_cpu=is_for_cpu))
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


def answers(url: str) -> bool:
    """Say whether a server has this page."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def to_fetch(options: list[str]) -> list[tuple[str, int | None]]:
    """Return what pip would install for PyTorch: names with versions, and sizes in bytes.

    A size is None where the server does not tell; the list is empty where pip finds nothing.
    """
    report = ["--dry-run", "-qq", "--report", "-"]
    done = pip(["install", *options, *report, "torch"], stdout=subprocess.PIPE)
    if done.returncode != 0:
        return []
    found = []
    for item in json.loads(done.stdout)["install"]:
        about = item["metadata"]
        url = item["download_info"]["url"]
        found.append((f"{about['name']} {about['version']}", size_bytes(url)))
    return found


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


def announcement(files: list[tuple[str, int | None]], *, is_for_cpu: bool) -> str:
    """Say what is about to be fetched."""
    if not files:
        return "the index does not tell which build of PyTorch it has; pip tries"
    torch = next((name for name, _ in files if name.startswith("torch ")), files[0][0])
    known = [size for _, size in files if size is not None]
    total = sum(known)
    least = "" if len(known) == len(files) else "at least "
    text = f"{torch} and what it needs, {least}{total / 1e6:,.0f} MB in {len(files)} files"
    if is_for_cpu and total > LARGE_BYTES:
        text += (
            "\nthis is the build with CUDA, though no NVIDIA device is here: the index has no"
            " other."
            f"\nto stop, press Ctrl-C; the build for CPUs is at {CPU_INDEX}"
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
