"""/api/embed and /api/embeddings."""

import msgspec
import pytest

from tests.gateway.endpoints.pooled_requests import ask
from tests.gateway.fakes import FakePool


async def test_each_text_has_a_vector_of_length_1() -> None:
    exchange = await ask("/api/embed", input=["ab", "abc"]).finished()
    assert exchange.status == 200, exchange.body
    first, second = exchange.json["embeddings"]
    assert first != second
    assert all(sum(x * x for x in each) == pytest.approx(1) for each in (first, second))
    assert exchange.json["prompt_eval_count"] > 4 and exchange.json["model"] == "tiny"
    [alone] = (await ask("/api/embed", input="ab").finished()).json["embeddings"]
    assert alone == first
    [short] = (await ask("/api/embed", input="ab", dimensions=2).finished()).json["embeddings"]
    assert len(short) == 2 and sum(x * x for x in short) == pytest.approx(1)
    assert (await ask("/api/embed", input=[]).finished()).json["embeddings"] == []


async def test_long_text_is_cut_unless_it_must_not_be() -> None:
    long = "a" * 5000
    assert (await ask("/api/embed", input=long).finished()).status == 200
    pool = FakePool()
    exchange = await ask("/api/embed", pool, input=long, truncate=False).finished()
    assert exchange.status == 400 and list(exchange.json) == ["error"] and not pool.submitted


async def test_older_form_has_one_vector() -> None:
    exchange = await ask("/api/embeddings", prompt="ab", options={"num_ctx": 5}).finished()
    assert msgspec.json.decode(exchange.body)["embedding"]
    assert (await ask("/api/embeddings", prompt="").finished()).status == 400
    assert (await ask("/api/embed", pooling=None, input="a").finished()).status == 400
