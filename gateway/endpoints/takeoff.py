"""/generate, /generate_stream, /embed and /classify, as Takeoff has them."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.delivery import pool_texts
from gateway.answers.vectors import as_floats, numbers
from gateway.dialects.dialect import Dialect, answer_parsed
from gateway.dialects.takeoff import (
    TAKEOFF_GENERATE,
    TAKEOFF_STREAM,
    TAKEOFF_WORDS,
    text_request,
)
from gateway.errors import ApiError, invalid, reworded
from gateway.requests.body import json_response
from gateway.requests.context_length import ContextLength
from gateway.requests.conversation import encode_conversation
from gateway.requests.limits import check_num_choices
from gateway.requests.parsed_request import ParsedRequest, parse_request
from gateway.requests.texts import encode_classified, encode_inputs
from gateway.schema.embeddings import EmbeddingRequest
from gateway.schema.messages import ChatMessage, PlainConversation, check_conversation
from gateway.schema.pooled import PooledFields
from gateway.schema.takeoff import (
    TakeoffClassifyRequest,
    TakeoffEmbedRequest,
    TakeoffFields,
    TakeoffRequest,
    TakeoffScores,
    TakeoffVectors,
    check_texts,
)
from gateway.service import Service

R = TypeVar("R", bound=TakeoffFields)
T = TypeVar("T")

_embed_decoder = msgspec.json.Decoder(TakeoffEmbedRequest)
_classify_decoder = msgspec.json.Decoder(TakeoffClassifyRequest)
# What answers where a model does something else.
_ENDPOINTS = {
    "generate": "makes text: POST /generate or /generate_stream",
    "embed": "makes embeddings: POST /embed",
    "rerank": "scores texts: POST /classify",
}
# The group that Takeoff's client names in requests to classify unless it is told another.
CLASSIFY_GROUP = "classify"


async def takeoff_generate(http_request: Request) -> Response:
    """Answer prompts in one piece."""
    return await _generate(http_request, TAKEOFF_GENERATE, is_streamed=False)


async def takeoff_generate_stream(http_request: Request) -> Response:
    """Answer prompts event by event."""
    return await _generate(http_request, TAKEOFF_STREAM, is_streamed=True)


async def takeoff_embed(http_request: Request) -> Response:
    """Return a vector for each text."""
    parsed = await _parse(http_request, _embed_decoder, "embed")
    service: Service = http_request.app.state.service
    text = parsed.request.text
    check_texts([text] if isinstance(text, str) else text)
    listed: list[str | int | list[int]] = [text] if isinstance(text, str) else [*text]
    inputs = EmbeddingRequest(model="", input=listed)
    texts = await _in_words(encode_inputs(inputs, service))
    pooled, headers = await pool_texts(http_request, parsed, texts)
    vectors = list(map(as_floats, pooled.vectors))
    result: list[float | list[float]] = [*vectors[0]] if isinstance(text, str) else [*vectors]
    return json_response(TakeoffVectors(result), headers=headers)


async def takeoff_classify(http_request: Request) -> Response:
    """Return the scores of each text, or pair of texts."""
    parsed = await _parse(http_request, _classify_decoder, "rerank")
    service: Service = http_request.app.state.service
    given = parsed.request.text
    listed = [given] if isinstance(given, str) else given
    check_texts(["".join(text) for text in listed])
    texts = await encode_classified(listed, PooledFields(model=""), service)
    pooled, headers = await pool_texts(http_request, parsed, texts)
    scores = TakeoffScores([numbers(vector).tolist() for vector in pooled.vectors])
    return json_response(scores, headers=headers)


def consumer_group(request: TakeoffFields, service: Service) -> str:
    """Return which groups a request means. Raises ApiError for a name that none has."""
    name = request.consumer_group or ""
    names = service.pool.names
    if not name or name in names:
        return name
    if name == CLASSIFY_GROUP and isinstance(request, TakeoffClassifyRequest):
        return ""
    listed = ", ".join(f"'{each}'" for each in names.listed)
    message = f"There is no consumer group '{name}'; there are: {listed}."
    raise invalid(message, "consumer_group", "consumer_group_not_found")


async def _generate(
    http_request: Request, dialect: Dialect[TakeoffRequest], *, is_streamed: bool
) -> Response:
    parsed = await _parse(http_request, dialect.decoder, "generate")
    service: Service = http_request.app.state.service
    request = parsed.request
    if request.use_chat_template:
        prompts = await _in_words(_templated(request, service))
        dialect = replace(
            dialect, read=lambda asked: text_request(asked, prompts, is_streamed=is_streamed)
        )
    return await answer_parsed(http_request, dialect, parsed)


async def _templated(request: TakeoffRequest, service: Service) -> list[list[int]]:
    """Return the token ids of texts that are each a user's message. Raises ApiError."""
    meant = text_request(request, request.texts, is_streamed=False)
    # Of plain prompts it is checked with them; here before each takes its turn at the template.
    check_num_choices(len(request.texts), meant.num_candidates, service.limits, meant.fields)
    context, max_tokens = ContextLength(service.pool), request.max_tokens
    prompts = []
    for text in request.texts:
        conversation = PlainConversation(messages=[ChatMessage(role="user", content=text)])
        check_conversation(conversation)
        token_ids = await encode_conversation(
            conversation,
            None,
            service.chat_templates,
            check=lambda text: context.check_texts([text], service.tokenizer, max_tokens, meant),
        )
        prompts.append(token_ids)
    return prompts


async def _in_words(made: Awaitable[T]) -> T:
    """Return what is made; a refusal says Takeoff's names of fields."""
    try:
        return await made
    except ApiError as error:
        raise reworded(error, TAKEOFF_WORDS) from None


async def _parse(
    http_request: Request, decoder: msgspec.json.Decoder[R], task: str
) -> ParsedRequest[R]:
    """Read a request. Raises ApiError."""
    service: Service = http_request.app.state.service
    if service.task != task:
        name = service.model_names[0]
        message = f"The model '{name}' {_ENDPOINTS[service.task]}."
        raise invalid(message, None, "wrong_task")
    group_of: Callable[[R, Service], str] = consumer_group
    return await parse_request(http_request, decoder, task, group_of)
