"""Encoders' tiny GGUF files in llama.cpp itself: its vectors and scores are ours of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.backend.models.encoder_gguf import (
    MEAN,
    RANK,
    TURNING,
    write_gguf,
    write_turning,
    write_unbiased_modernbert,
)
from tests.backend.models.encoder_models import (
    CASES,
    CROSS_ENCODERS,
    TEXTS,
    engine_of,
    vectors_of,
    write_model,
)
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON, build_llama_server
from tests.suites.environment import sources

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# The longest is five times as wide as ModernBERT's window.
ASKED = [*TEXTS, list(range(4, 60))]
EMBEDDERS = ("bert", "roberta", *TURNING)
# llama.cpp reads no classifier of jina-bert-v3.
SCORERS = ("bert", "roberta", "modernbert")


def write(directory: Path, name: str, pooling_type: int) -> Path:
    path = directory / "tiny.gguf"
    if name == "modernbert" and pooling_type == RANK:
        return write_turning(path, write_unbiased_modernbert(directory), name, pooling_type)
    case = CROSS_ENCODERS[name] if pooling_type == RANK else CASES[name]
    model = write_model(directory, case)
    if name in TURNING:
        return write_turning(path, model, name, pooling_type)
    return write_gguf(path, model, pooling_type, 2 if name == "roberta" else 0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    wanted = [(name, MEAN) for name in EMBEDDERS] + [(name, RANK) for name in SCORERS]
    return {key: write(tmp_path_factory.mktemp("twin"), *key) for key in wanted}


@pytest.fixture(scope="module")
def theirs(files: dict[tuple[str, int], Path]) -> dict[str, list[list[float]]]:
    libraries = build_llama_server().parent
    bindings = sources("llama-cpp-python", LLAMA_CPP_PYTHON)
    done = subprocess.run(
        [sys.executable, "-m", "tests.suites.llama_cpp_vectors", bindings, libraries],
        input=json.dumps({str(path): ASKED for path in files.values()}),
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    answers: dict[str, list[list[float]]] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("name", EMBEDDERS)
def test_llama_cpp_gives_the_same_vectors(
    name: str, files: dict[tuple[str, int], Path], theirs: dict[str, list[list[float]]]
) -> None:
    path = files[name, MEAN]
    ours = torch.from_numpy(vectors_of(engine_of(path), ASKED))
    cosines = torch.cosine_similarity(ours, torch.tensor(theirs[str(path)]), dim=1)
    assert cosines.min() > 0.999999


@pytest.mark.parametrize("name", SCORERS)
def test_llama_cpp_gives_the_same_scores(
    name: str, files: dict[tuple[str, int], Path], theirs: dict[str, list[list[float]]]
) -> None:
    path = files[name, RANK]
    ours = torch.from_numpy(vectors_of(engine_of(path), ASKED))
    scores = torch.tensor(theirs[str(path)]).sigmoid()
    assert float(ours.max() - ours.min()) > 0.02
    # It looks up GELU in a table of float16.
    assert torch.allclose(ours, scores, atol=5e-4)
