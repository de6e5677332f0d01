import importlib.util
from importlib import metadata

import pytest

from backend.config.errors import ModelError
from gateway.layout import layout
from gateway.nodes.ray_launcher import check_ray
from gateway.settings import GroupSettings, ServerSettings, Settings


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"--launcher ray needs Ray; .*pip install '\.\[ray\]'"):
        check_ray()


@pytest.mark.parametrize(
    ("version", "is_enough"), [("2.9.3", False), ("2.60.0", True), ("2.61rc1", True)]
)
def test_ray_that_is_too_old_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, *, is_enough: bool
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(metadata, "version", lambda name: version)
    if is_enough:
        check_ray()
        return
    with pytest.raises(ModelError, match=r"Ray 2.9.3 is installed, .* needs 2.40 or later"):
        check_ray()


def test_node_is_of_no_use_without_a_cluster() -> None:
    groups = (GroupSettings(), GroupSettings(node="n2"))
    with pytest.raises(ModelError, match="a group is to run on node n2, and all run here"):
        layout(Settings(groups=groups))
    places = layout(Settings(ServerSettings(launcher="ray"), groups=groups))
    assert [place.node for place in places] == ["", "n2"]
    assert [place.engine.threads for place in places] == [0, 0], "the node knows its cores"
