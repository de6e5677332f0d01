"""POST /v1/rerank: from a query and documents to submitted pairs, and their scores back.

Must not know how a pair becomes tokens (texts.py). /rerank is the same; in /v2/rerank, Cohere's
newer form, documents are not sent back.
"""

import secrets

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.delivery import pool_texts
from gateway.answers.vectors import numbers
from gateway.requests.body import json_response
from gateway.requests.parsed_request import parse_request
from gateway.requests.texts import encode_pairs
from gateway.schema.embeddings import EmbeddingUsage
from gateway.schema.rerank import Document, RankedDocument, RerankRequest, RerankResponse
from gateway.schema.sampling import given
from gateway.service import Service

_decoder = msgspec.json.Decoder(RerankRequest)


async def rerank(http_request: Request) -> Response:
    """Return the documents that answer the query best, best first."""
    service: Service = http_request.app.state.service
    parsed = await parse_request(http_request, _decoder, "rerank")
    request = parsed.request
    pairs = await encode_pairs(request, service)
    pooled, headers = await pool_texts(http_request, parsed, pairs)
    scores = [numbers(vector)[0] for vector in pooled.vectors]
    ranked = sorted(range(len(scores)), key=lambda index: -scores[index])[: request.top_n]
    is_v2 = http_request.url.path.startswith("/v2/")
    texts = request.texts() if given(request.return_documents, not is_v2) else None
    body = RerankResponse(
        id=f"rerank-{secrets.token_hex(16)}",
        model=request.model,
        results=[
            RankedDocument(index, scores[index], Document(texts[index]) if texts else UNSET)
            for index in ranked
        ],
        usage=EmbeddingUsage(pooled.num_tokens, pooled.num_tokens),
    )
    return json_response(body, headers=headers)
