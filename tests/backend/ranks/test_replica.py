"""Groups that cannot be are refused before anything starts, in words of their flags."""

from pathlib import Path

import pytest

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.ranks.replica import check_group
from backend.settings import EngineSettings
from tests.backend.factories import write_tiny_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny", num_layers=4)


@pytest.mark.parametrize(
    ("tp", "pp", "nodes", "words"),
    [
        (2, 1, 3, "--nodes 3: 2 ranks cannot be shared out evenly\nuse a --tp that is a multiple"),
        (1, 1, 2, "--nodes 2: 1 rank cannot be shared out evenly\nuse a --tp that is a multiple"),
        (1, 3, 2, "--nodes 2: 3 stages of 1 rank cannot be .* whole stages; or --nodes that are"),
        (
            1,
            2,
            4,
            "--nodes 4: 2 stages of 1 rank cannot be .* a --tp that the nodes of a stage",
        ),
        (2, 3, 2, "--nodes 2: 3 stages of 2 ranks cannot be shared out evenly\nuse a --pp"),
    ],
)
def test_ranks_that_nodes_cannot_share_are_refused(
    model: Path, tp: int, pp: int, nodes: int, words: str
) -> None:
    settings = EngineSettings(model=str(model), tp=tp, pp=pp, nodes=nodes)
    with pytest.raises(ModelError, match=f"(?s){words}"):
        check_group(load_config(model), settings)


@pytest.mark.parametrize(("tp", "pp", "nodes"), [(2, 1, 2), (1, 4, 2), (2, 2, 4), (2, 2, 2)])
def test_nodes_have_whole_stages_or_stages_whole_nodes(
    model: Path, tp: int, pp: int, nodes: int
) -> None:
    settings = EngineSettings(model=str(model), tp=tp, pp=pp, nodes=nodes, max_model_len=32)
    check_group(load_config(model), settings)
