"""/api/embed, and the older /api/embeddings, as Ollama has them."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.vectors import as_floats, shortened
from gateway.endpoints.embeddings import pooled_vectors
from gateway.requests.body import json_response
from gateway.requests.parsed_request import parse_request
from gateway.schema.ollama_embed import (
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaVector,
    OllamaVectors,
)

_EMBED = msgspec.json.Decoder(OllamaEmbedRequest)
_EMBEDDINGS = msgspec.json.Decoder(OllamaEmbeddingsRequest)


async def ollama_embed(http_request: Request) -> Response:
    """Return a vector of length 1 for each text."""
    begun_ns = time.monotonic_ns()
    parsed = await parse_request(http_request, _EMBED, "embed")
    request = parsed.request
    if not request.input and isinstance(request.input, list):
        return json_response(OllamaVectors(model=request.model, embeddings=[]))
    vectors, num_tokens, headers = await pooled_vectors(http_request, parsed, request.as_openai())
    body = OllamaVectors(
        model=request.model,
        embeddings=[as_floats(shortened(v, len(v) // 4, is_normalized=True)) for v in vectors],
        total_duration=time.monotonic_ns() - begun_ns,
        load_duration=0,
        prompt_eval_count=num_tokens,
    )
    return json_response(body, headers=headers)


async def ollama_embeddings(http_request: Request) -> Response:
    """Return the vector of one text."""
    parsed = await parse_request(http_request, _EMBEDDINGS, "embed")
    openai = parsed.request.as_openai()
    [vector], _, headers = await pooled_vectors(http_request, parsed, openai)
    return json_response(OllamaVector(as_floats(vector)), headers=headers)
