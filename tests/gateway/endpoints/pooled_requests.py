"""Requests for vectors and scores, run to their end against a pool that invents them."""

from typing import Any

import msgspec

from backend.config.pooling import Pooling
from gateway.app import create_app
from gateway.text.embedding_prompts import EmbeddingPrompts
from tests.gateway.fakes import ByteTokenizer, Exchange, FakePool, make_service

EMBED = Pooling("embed", ("mean",), is_normalized=True)
RERANK = Pooling("rerank", ("cls",))


def vector_of(token_ids: list[int]) -> list[float]:
    """Return a vector of length 1 that tells how many tokens there were."""
    return [0.0, 0.6, 0.8] if len(token_ids) % 2 else [0.6, 0.0, 0.8]


def score_of(token_ids: list[int]) -> list[float]:
    """Return a score that is higher for a longer text."""
    return [len(token_ids) / 100]


def ask(
    path: str,
    pool: FakePool | None = None,
    *,
    pooling: Pooling | None = EMBED,
    tokenizer: ByteTokenizer | None = None,
    prompts: EmbeddingPrompts | None = None,
    has_segments: bool = True,
    **fields: Any,
) -> Exchange:
    """Begin a POST of the model "tiny"."""
    if pool is None:
        is_score = pooling is not None and pooling.task == "rerank"
        pool = FakePool(vector_of=score_of if is_score else vector_of)
    service = make_service(
        pool,
        tokenizer,
        pooling=pooling,
        width=3,
        has_segments=has_segments,
        prompts=prompts,
    )
    body = msgspec.json.encode({"model": "tiny", **fields})
    return Exchange(create_app(service), "POST", path, body)


def embed(pool: FakePool | None = None, **fields: Any) -> Exchange:
    """Begin POST /v1/embeddings."""
    return ask("/v1/embeddings", pool, **fields)


def rerank(pool: FakePool | None = None, path: str = "/v1/rerank", **fields: Any) -> Exchange:
    """Begin POST /v1/rerank of a cross-encoder."""
    return ask(path, pool, **{"pooling": RERANK, **fields})
