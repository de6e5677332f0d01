"""What Takeoff tells of its readers, which are groups here, and of the tokens of their model.

A reader is named by its number or by the name of its group; all have the same model.
"""

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.endpoints.tokenize import decoded_text
from gateway.errors import ApiError, invalid
from gateway.requests.body import decode_body, json_response, read_body
from gateway.requests.context_length import ContextLength
from gateway.requests.conversation import encode_conversation
from gateway.requests.token_ids import check_token_ids
from gateway.requests.unknown_fields import ignored_header, unknown_fields
from gateway.schema.messages import ChatMessage, PlainConversation, check_conversation
from gateway.schema.takeoff import (
    TakeoffDetokenizeRequest,
    TakeoffMessages,
    TakeoffPlainText,
    TakeoffReader,
    TakeoffStatus,
    TakeoffTemplateRequest,
    TakeoffTokenizeRequest,
    TakeoffTokens,
)
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

_tokenize_decoder = msgspec.json.Decoder(TakeoffTokenizeRequest)
_detokenize_decoder = msgspec.json.Decoder(TakeoffDetokenizeRequest)
_template_decoder = msgspec.json.Decoder(TakeoffTemplateRequest)

T = TypeVar("T", bound=msgspec.Struct)


async def takeoff_healthz(http_request: Request) -> Response:
    """Answer as long as the event loop turns."""
    return json_response({"status": "alive"})


async def takeoff_status(http_request: Request) -> Response:
    """List the readers that take work."""
    service: Service = http_request.app.state.service
    live = {reader.reader_id: reader for reader in _readers(service) if reader.ready}
    return json_response(TakeoffStatus(live))


async def takeoff_config(http_request: Request) -> Response:
    """Describe one reader; without its id the first."""
    service: Service = http_request.app.state.service
    asked = http_request.path_params.get("name")
    return json_response(find_reader(_readers(service), asked))


async def takeoff_tokenize(http_request: Request) -> Response:
    """Return the tokens of a text."""
    service, request, headers = await _asked(http_request, _tokenize_decoder)
    if request.use_chat_template:
        messages = [ChatMessage(role="user", content=request.text)]
        token_ids = await _encoded(messages, service, add_generation_prompt=True)
    else:
        try:
            token_ids = await asyncio.to_thread(service.tokenizer.encode, request.text)
        except TokenizerError as error:
            raise invalid(f"Invalid 'text': {error}.", "text") from None
    tokens = list(map(service.tokenizer.token, token_ids))
    return json_response(TakeoffTokens(tokens, len(tokens)), headers=headers)


async def takeoff_detokenize(http_request: Request) -> Response:
    """Return the text of tokens, which are spelled as the vocabulary has them, or ids."""
    service, request, headers = await _asked(http_request, _detokenize_decoder)
    ids = [_token_id(token, number, service) for number, token in enumerate(request.tokens)]
    check_token_ids(ids, service.vocab_size, "tokens")
    skips = request.skip_special_tokens is not False
    text = await decoded_text(ids, service, skip_special_tokens=skips)
    return json_response(TakeoffPlainText(text), headers=headers)


async def takeoff_chat_template(http_request: Request) -> Response:
    """Return what the model's template makes of conversations."""
    service, request, headers = await _asked(http_request, _template_decoder)
    texts = []
    for messages in request.inputs:
        prompts = bool(request.add_generation_prompt)
        ids = await _encoded(messages, service, add_generation_prompt=prompts)
        texts.append(await decoded_text(ids, service, skip_special_tokens=False))
    return json_response(TakeoffMessages(texts), headers=headers)


def find_reader(readers: list[TakeoffReader], asked: str | None) -> TakeoffReader:
    """Return the reader of an id, or the first of a group's name; of no id, the first.

    Raises ApiError 404.
    """
    by_id = [reader for reader in readers if asked in (None, reader.reader_id)]
    by_name = [reader for reader in readers if asked == reader.consumer_group]
    if found := [*by_id, *by_name]:
        return found[0]
    known = ", ".join(f"'{reader.reader_id}'" for reader in readers) or "none"
    message = f"There is no reader '{asked or ''}'; there are: {known}."
    raise ApiError(404, message, code="reader_not_found")


def _readers(service: Service) -> list[TakeoffReader]:
    groups = sorted(service.pool.status().groups, key=lambda group: group.group)
    return [
        TakeoffReader(
            reader_id=str(group.group),
            consumer_group=group.name,
            model_name=service.model_names[0],
            model_type=service.task,
            max_sequence_length=ContextLength(service.pool).num_tokens,
            ready=group.ready,
            running=group.running,
            waiting=group.waiting,
        )
        for group in groups
    ]


async def _asked(
    http_request: Request, decoder: msgspec.json.Decoder[T]
) -> tuple[Service, T, dict[str, str]]:
    """Return the service, the body of a request about one reader, and headers of the answer."""
    service: Service = http_request.app.state.service
    body = await read_body(http_request, service)
    request = decode_body(body, decoder, service.limits.max_json_depth)
    known = frozenset(request.__struct_fields__)
    ignored = unknown_fields(body, known, is_strict=service.strict)
    find_reader(_readers(service), http_request.path_params["name"])
    return service, request, ignored_header(ignored)


async def _encoded(
    messages: list[ChatMessage], service: Service, *, add_generation_prompt: bool
) -> list[int]:
    conversation = PlainConversation(messages=messages, add_generation_prompt=add_generation_prompt)
    check_conversation(conversation)
    return await encode_conversation(conversation, None, service.chat_templates)


def _token_id(token: str | int, number: int, service: Service) -> int:
    if isinstance(token, int):
        return token
    if (token_id := service.tokenizer.id_of(token)) is None:
        message = f"Invalid 'tokens[{number}]': the vocabulary has no token {token[:40]!r}."
        raise invalid(message, "tokens", "invalid_token")
    return token_id
