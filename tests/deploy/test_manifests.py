"""What the deployment files say, checked with the tools of those who will read them."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.setting_sources import load
from tests.deploy.test_dashboard import ROOT

DEPLOY = ROOT / "deploy"
# systemd's exposure score times ten: 1.2 is "OK", the unit of a web server without any is 9.6.
MAX_EXPOSURE = 15
IMAGE_TAGS = {"base": "latest", "gpu": "cuda", "nodes": "ray"}
UNITS = (
    "unisono.service",
    "unisono.socket",
    "unisono-ray-head.service",
    "unisono-ray-worker.service",
)


def manifests() -> dict[str, Any]:
    """The Kubernetes objects by kind."""
    text = (DEPLOY / "kubernetes/base/unisono.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_settings_files_hold_settings_only(tmp_path: Path) -> None:
    example = DEPLOY / "unisono.toml"
    assert load({}, {}, example).settings.server.log_format == "json"
    of_kubernetes = tmp_path / "unisono.toml"
    of_kubernetes.write_text(manifests()["ConfigMap"]["data"]["unisono.toml"])
    assert load({}, {}, of_kubernetes).settings.server.api_keys


def test_pods_have_time_to_drain() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    drain = tomllib.loads(manifests()["ConfigMap"]["data"]["unisono.toml"])["server"]
    [container] = pod["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > drain["drain_seconds"] + pause + 10
    probes = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness")]
    assert probes == ["/livez", "/readyz"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_variables_of_images_are_settings_and_users_are_not_root(name: str) -> None:
    text = (DEPLOY / name).read_text()
    environ = dict(re.findall(r"\b(UNISONO_\w+)=(\S+)", text))
    assert load({}, environ, None).settings.server.host == "0.0.0.0"
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["entrypoint"]' in text
    assert "COPY deploy/entrypoint.sh /usr/local/bin/entrypoint" in text
    if shutil.which("hadolint"):
        subprocess.run(["hadolint", DEPLOY / name], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_units_are_sound_and_little_exposed(tmp_path: Path) -> None:
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        text = re.sub(r"/opt/unisono/venv/bin/\w+", sys.executable, text)
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in UNITS]
    verify = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (verify.returncode, verify.stdout + verify.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    subprocess.run(
        [*command, f"--threshold={MAX_EXPOSURE}", units[0]], check=True, capture_output=True
    )


def test_nodes_run_their_servers_image_and_the_pinned_ray() -> None:
    folder = DEPLOY / "kubernetes/nodes"
    cluster, policy = yaml.safe_load_all((folder / "cluster.yaml").read_text())
    pinned = re.search(r"^ray==(\S+)$", (DEPLOY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and cluster["spec"]["rayVersion"] == pinned[1]
    [workers] = cluster["spec"]["workerGroupSpecs"]
    pods = [cluster["spec"]["headGroupSpec"]["template"], workers["template"]]
    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["unisono:ray"] * 2
    image = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
    assert image == [{"name": "unisono", "newTag": "ray"}]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"ray.io/cluster": "unisono-nodes"}


def test_settings_of_nodes_are_settings() -> None:
    patch = yaml.safe_load((DEPLOY / "kubernetes/nodes/patch.yaml").read_text())
    [container] = patch["spec"]["template"]["spec"]["containers"]
    environ = {each["name"]: each["value"] for each in container["env"]}
    settings = load({}, {n: v for n, v in environ.items() if n.startswith("UNISONO_")}, None)
    assert settings.settings.server.launcher == "ray"
    compose = yaml.safe_load((DEPLOY / "compose.nodes.yaml").read_text())
    assert list(compose["services"]) == ["head", "worker1", "worker2"]
    assert all(each["image"] == "unisono:ray" for each in compose["services"].values())
    assert "nodes" in compose["networks"] and compose["networks"]["nodes"]["internal"]
    [serve] = compose["services"]["head"]["command"]
    assert re.findall(r"--dp (\d)", serve) == ["3"], "a group for each node"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
@pytest.mark.parametrize("name", ["base", "gpu", "nodes"])
def test_kustomizations_can_be_built(name: str) -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / name)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    [deployment] = [d for d in yaml.safe_load_all(built.stdout) if d["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"unisono:{IMAGE_TAGS[name]}"
