"""POST /v1/embeddings: from texts to submitted sequences, and their vectors back.

Must not know how texts become tokens (texts.py) nor how a vector is written (vectors.py).
"""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.delivery import pool_texts
from gateway.answers.vectors import as_base64, as_floats, shortened
from gateway.errors import invalid
from gateway.requests.body import json_response
from gateway.requests.parsed_request import ParsedRequest, parse_request
from gateway.requests.texts import encode_inputs
from gateway.schema.embeddings import (
    EmbeddingList,
    EmbeddingObject,
    EmbeddingRequest,
    EmbeddingUsage,
)
from gateway.service import Service

_decoder = msgspec.json.Decoder(EmbeddingRequest)


async def create_embeddings(http_request: Request) -> Response:
    """Return a vector for each text."""
    parsed = await parse_request(http_request, _decoder, "embed")
    request = parsed.request
    vectors, num_tokens, headers = await pooled_vectors(http_request, parsed, request)
    write = as_base64 if request.encoding_format == "base64" else as_floats
    body = EmbeddingList(
        data=[
            EmbeddingObject(index=index, embedding=write(vector))
            for index, vector in enumerate(vectors)
        ],
        model=request.model,
        usage=EmbeddingUsage(num_tokens, num_tokens),
    )
    return json_response(body, headers=headers)


async def pooled_vectors(
    http_request: Request, parsed: ParsedRequest[Any], request: EmbeddingRequest
) -> tuple[list[bytes], int, dict[str, str]]:
    """Return the vectors of a request, the tokens of its texts, and the headers of the answer.

    parsed: how the request is treated, in whichever form it came. Raises ApiError.
    """
    service: Service = http_request.app.state.service
    dimensions = request.dimensions
    if dimensions is not None and dimensions > service.width:
        raise invalid(
            f"Invalid 'dimensions': this model's vectors have {service.width} numbers, however you "
            f"asked for {dimensions}.",
            "dimensions",
        )
    texts = await encode_inputs(request, service)
    pooled, headers = await pool_texts(http_request, parsed, texts)
    vectors = pooled.vectors
    if dimensions is not None and dimensions < service.width:
        is_normalized = service.pooling is not None and service.pooling.is_normalized
        vectors = [shortened(each, dimensions, is_normalized=is_normalized) for each in vectors]
    return vectors, pooled.num_tokens, headers
