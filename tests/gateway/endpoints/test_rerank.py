"""Documents ranked by a query, in Jina's shape and Cohere's."""

from typing import Any

import pytest

from backend.config.pooling import Pooling
from tests.gateway.endpoints.pooled_requests import rerank, score_of
from tests.gateway.fakes import BOS, EOS, FakePool

DOCUMENTS = ["bb", {"text": "dddd"}, "ccc"]


async def test_best_documents_come_first() -> None:
    exchange = await rerank(query="q", documents=DOCUMENTS, top_n=2).finished()
    assert exchange.status == 200
    answer = exchange.json
    assert answer.pop("id").startswith("rerank-")
    assert [result.pop("relevance_score") for result in answer["results"]] == pytest.approx(
        [0.07, 0.06]
    )
    assert answer == {
        "object": "list",
        "model": "tiny",
        "results": [
            {"index": 1, "document": {"text": "dddd"}},
            {"index": 2, "document": {"text": "ccc"}},
        ],
        "usage": {"prompt_tokens": 18, "total_tokens": 18},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }


@pytest.mark.parametrize(
    ("path", "wanted", "has_documents"),
    [
        ("/v1/rerank", None, True),
        ("/rerank", None, True),
        ("/v2/rerank", None, False),
        ("/v1/rerank", False, False),
        ("/v2/rerank", True, True),
    ],
)
async def test_documents_are_sent_back_as_each_form_has_it(
    path: str, wanted: bool | None, has_documents: bool
) -> None:
    exchange = await rerank(
        path=path, query="q", documents=["a"], return_documents=wanted
    ).finished()
    assert ("document" in exchange.json["results"][0]) == has_documents


@pytest.mark.parametrize(("document", "kept"), [("abb", b"a"), ("aba", b"aba")])
async def test_what_a_classifier_skips_at_an_end_is_left_out(document: str, kept: bytes) -> None:
    pool = FakePool(vector_of=score_of)
    pooling = Pooling("rerank", ("lasttoken",), skipped_id=ord("b"))
    await rerank(pool, query="qb", documents=[document], pooling=pooling).finished()
    assert pool.submitted[0].prompt_ids == [BOS, *b"qb", EOS, *kept]


@pytest.mark.parametrize("has_segments", [True, False])
async def test_pair_is_in_the_model_s_form(has_segments: bool) -> None:
    pool = FakePool(vector_of=score_of)
    await rerank(pool, query="qq", documents=["ab"], has_segments=has_segments).finished()
    assert pool.submitted[0].prompt_ids == [BOS, *b"qq", EOS, *b"ab"]
    assert pool.submitted[0].second_segment == (4 if has_segments else 0)


async def test_decoder_is_asked_as_its_card_says() -> None:
    pool = FakePool(vector_of=score_of)
    pooling = Pooling("rerank", ("lasttoken",), answer_ids=(1, 2))
    await rerank(pool, query="a river", documents=["Seine"], pooling=pooling).finished()
    text = bytes(pool.submitted[0].prompt_ids).decode()
    assert text.startswith("<|im_start|>system\nJudge whether the Document meets")
    assert text.endswith(
        "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that "
        "answer the query\n<Query>: a river\n<Document>: Seine<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n"
    )


async def test_decoder_s_document_is_cut_and_nothing_else() -> None:
    pool = FakePool(vector_of=score_of)
    pooling = Pooling("rerank", ("lasttoken",), answer_ids=(1, 2))
    fields: dict[str, Any] = {"instruction": "i", "truncate_prompt_tokens": -1}
    await rerank(pool, query="q", documents=["x" * 5000], pooling=pooling, **fields).finished()
    text = bytes(pool.submitted[0].prompt_ids).decode()
    assert len(text) == 1000
    assert "<Instruct>: i\n<Query>: q\n<Document>: xxx" in text
    assert text.endswith("xxx<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


async def test_documents_count_with_their_first_tokens() -> None:
    fields: dict[str, Any] = {"query": "q", "documents": ["a" * 2000, "b"]}
    pool = FakePool(vector_of=score_of)
    await rerank(pool, max_tokens_per_doc=3, **fields).finished()
    assert [each.prompt_ids for each in pool.submitted.values()] == [
        [BOS, *b"q", EOS, *b"aaa"],
        [BOS, *b"q", EOS, *b"b"],
    ]
    pooling = Pooling("rerank", ("lasttoken",), answer_ids=(1, 2))
    await rerank(pool, max_tokens_per_doc=3, pooling=pooling, **fields).finished()
    assert "<Document>: aaa<|im_end|>" in bytes(pool.submitted[2].prompt_ids).decode()


async def test_characters_may_have_more_tokens_than_one() -> None:
    pool = FakePool(vector_of=score_of)
    pooling = Pooling("rerank", ("lasttoken",), answer_ids=(1, 2))
    fields: dict[str, Any] = {"query": "q", "documents": ["ééé"], "max_tokens_per_doc": 4}
    await rerank(pool, pooling=pooling, **fields).finished()
    assert "<Document>: éé<|im_end|>" in bytes(pool.submitted[0].prompt_ids).decode()


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"query": "", "documents": ["a"]}, "query", "Invalid 'query': the string is empty."),
        ({"query": "q", "documents": []}, "documents", "Invalid 'documents': the array is empty."),
        ({"query": "q"}, "documents", "Missing required parameter: 'documents'."),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n", "Expected a value >= 1"),
        (
            {"query": "q", "documents": ["a"], "instruction": "find rivers"},
            "instruction",
            "'instruction' cannot be used: this model scores a pair of texts",
        ),
        (
            {"query": "q", "documents": ["a", "b" * 1000]},
            "documents",
            "takes 1000 tokens of a text at most, however 'documents[1]' has at least 1001",
        ),
    ],
)
async def test_bad_input_is_refused(fields: dict[str, Any], param: str, message: str) -> None:
    pool = FakePool()
    exchange = await rerank(pool, **fields).finished()
    assert exchange.status == 400
    assert exchange.error["param"] == param
    assert message in exchange.error["message"]
    assert not pool.submitted
