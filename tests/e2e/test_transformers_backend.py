"""A model of a class that has no family of ours, served over HTTP without a flag that says so."""

from pathlib import Path

import pytest

from tests.backend.foreign_models import reference_logits, write_foreign
from tests.e2e.clients import post
from tests.e2e.server import Server, refused_start

pytestmark = pytest.mark.e2e

ARCHITECTURE = "ApertusForCausalLM"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "model"
    return write_foreign(path, ARCHITECTURE, num_hidden_layers=4)


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_class_without_a_family_is_served(model: Path, ranks: str) -> None:
    """Three KV heads over two ranks as well; the start says whose code it is."""
    prompt = [5, 99, 42, 7, 250, 3, 17, 88, 123, 11]
    with Server(model, "--dtype", "float32", "--tp", ranks) as server:
        status, answer = post(
            server.url, "/v1/completions", model="model", prompt=prompt, max_tokens=6,
            temperature=0, ignore_eos=True, return_token_ids=True,
        )  # fmt: skip
        assert status == 200, answer
        assert f"served by transformers' modelling code, class {ARCHITECTURE}" in server.stderr
    tokens = answer["choices"][0]["token_ids"]
    for token in tokens:
        assert int(reference_logits(model, ARCHITECTURE, prompt)[-1].argmax()) == token
        prompt.append(token)
    assert len(tokens) == 6


def test_our_own_decoder_refuses_it(model: Path) -> None:
    words = refused_start(model, "--model-impl", "unisono")
    assert "not supported by our own decoder" in words
