"""Vectors and scores of tiny models through HTTP: the official client, ranks, a killed group."""

import base64
import http.client
import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from tests.backend.models.encoder_models import CASES, CROSS_ENCODERS, EncoderCase, write_model
from tests.e2e.clients import openai_client
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

TEXTS = ["hello", "a longer text with more letters", "x"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_served(directory: Path, case: EncoderCase) -> tuple[Any, tokenizers.Tokenizer]:
    """Write a model with a vocabulary of letters; return transformers' own, and the tokenizer."""
    model = write_model(directory, case)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{c}" for c in LETTERS)]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    backend.save(str(directory / "tokenizer.json"))
    return model, backend


def post(server: Server, path: str, body: dict[str, Any]) -> Any:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def test_vectors_are_those_of_transformers_also_after_a_kill(tmp_path: Path) -> None:
    directory = tmp_path / "tiny-bert"
    directory.mkdir()
    model, backend = write_served(directory, CASES["bert"])
    ids = [encoding.ids for encoding in backend.encode_batch(TEXTS)]
    with torch.inference_mode():
        expected = [model(torch.tensor([each])).last_hidden_state[0].mean(0) for each in ids]
    with Server(directory, "--dtype", "float32", "--tp", "2") as server:
        with openai_client(server.url) as client:
            [card] = client.models.list().data
            assert card.id == "tiny-bert"

            def vectors() -> np.ndarray[Any, Any]:
                # Until the group is back it answers 503, and when to come again.
                patient = client.with_options(max_retries=30)
                found = patient.embeddings.create(model="tiny-bert", input=TEXTS)
                assert found.usage.prompt_tokens == sum(map(len, ids))
                return np.array([each.embedding for each in found.data])

            assert np.abs(vectors() - torch.stack(expected).numpy()).max() < 1e-4
            with pytest.raises(openai.BadRequestError, match="makes embeddings"):
                client.completions.create(model="tiny-bert", prompt="hello")
            os.kill(server.processes["unisono: rank 0.1"], signal.SIGKILL)
            assert np.abs(vectors() - torch.stack(expected).numpy()).max() < 1e-4


def test_dimensions_base64_and_ids_of_an_encoder_that_turns(tmp_path: Path) -> None:
    directory = tmp_path / "tiny-modern"
    directory.mkdir()
    model, backend = write_served(directory, CASES["modernbert"])
    ids = [encoding.ids for encoding in backend.encode_batch(TEXTS)]
    with torch.inference_mode():
        means = [model(torch.tensor([each])).last_hidden_state[0].mean(0) for each in ids]
    expected = torch.stack(means)
    cut = torch.nn.functional.normalize(expected[:, :16])
    with Server(directory, "--dtype", "float32") as server:
        for inputs in (TEXTS, ids):
            body = {"model": "tiny-modern", "input": inputs, "encoding_format": "base64"}
            data = post(server, "/v1/embeddings", body)["data"]
            found = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in data]
            assert np.abs(np.stack(found) - expected.numpy()).max() < 1e-4
            with openai_client(server.url) as client:
                short = client.embeddings.create(model="tiny-modern", input=inputs, dimensions=16)
            vectors = torch.tensor([each.embedding for each in short.data])
            assert (torch.nn.functional.normalize(vectors) - cut).abs().max() < 1e-4


# At the default dtype, which has kernels of ours that float32 has not, and in float32.
@pytest.mark.parametrize(
    ("name", "flags", "tolerance"),
    [("bert", (), 0.02), ("nomic_bert", ("--dtype", "float32"), 1e-4)],
)
def test_scores_are_those_of_transformers(
    name: str, flags: tuple[str, ...], tolerance: float, tmp_path: Path
) -> None:
    directory = tmp_path / "tiny-ranker"
    directory.mkdir()
    model, backend = write_served(directory, CROSS_ENCODERS[name])
    expected = {}
    with torch.inference_mode():
        for index, text in enumerate(TEXTS):
            pair = backend.encode("a query", text)
            types = torch.tensor([pair.type_ids])
            logit = model(torch.tensor([pair.ids]), token_type_ids=types).logits[0, 0]
            expected[index] = torch.sigmoid(logit).item()
    with Server(directory, *flags) as server:
        body = {"model": "tiny-ranker", "query": "a query", "documents": TEXTS}
        results = post(server, "/v1/rerank", body)["results"]
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True) and len(scores) == len(TEXTS)
    for result in results:
        assert abs(result["relevance_score"] - expected[result["index"]]) < tolerance
