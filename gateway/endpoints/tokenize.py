"""POST /tokenize and /detokenize: how this model cuts text, in the shapes that vLLM gave them."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.logprobs import token_text
from gateway.errors import invalid, model_not_found
from gateway.requests.body import decode_body, json_response, read_body
from gateway.requests.context_length import ContextLength
from gateway.requests.conversation import encode_conversation
from gateway.requests.prompt import MAX_INLINE_LENGTH
from gateway.requests.token_ids import check_token_ids
from gateway.requests.unknown_fields import ignored_header, unknown_fields
from gateway.schema.messages import PlainConversation, check_conversation
from gateway.schema.tokenize import (
    DetokenizedText,
    DetokenizeRequest,
    TokenizeRequest,
    Tokens,
)
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

_tokenize_decoder = msgspec.json.Decoder(TokenizeRequest)
_detokenize_decoder = msgspec.json.Decoder(DetokenizeRequest)


async def tokenize(http_request: Request) -> Response:
    """Return the token ids of a prompt or a conversation."""
    service: Service = http_request.app.state.service
    body = await read_body(http_request, service)
    request = decode_body(body, _tokenize_decoder, service.limits.max_json_depth)
    headers = _checked(request, body, service)
    request.check()
    token_ids = await _token_ids(request, service)
    tokens = Tokens(
        count=len(token_ids),
        max_model_len=ContextLength(service.pool).num_tokens,
        tokens=token_ids,
        token_strs=[token_text(token_id, service.tokenizer) for token_id in token_ids]
        if request.return_token_strs
        else None,
    )
    return json_response(tokens, headers=headers)


async def detokenize(http_request: Request) -> Response:
    """Return the text of token ids."""
    service: Service = http_request.app.state.service
    body = await read_body(http_request, service)
    request = decode_body(body, _detokenize_decoder, service.limits.max_json_depth)
    headers = _checked(request, body, service)
    check_token_ids(request.tokens, service.vocab_size, "tokens")
    text = await decoded_text(request.tokens, service, skip_special_tokens=False)
    return json_response(DetokenizedText(text), headers=headers)


async def decoded_text(ids: list[int], service: Service, *, skip_special_tokens: bool) -> str:
    """Return the text of token ids, off the event loop if that takes long."""
    decode = service.tokenizer.decode
    if len(ids) > MAX_INLINE_LENGTH:
        return await asyncio.to_thread(decode, ids, skip_special_tokens=skip_special_tokens)
    return decode(ids, skip_special_tokens=skip_special_tokens)


def _checked(
    request: TokenizeRequest | DetokenizeRequest, body: bytes, service: Service
) -> dict[str, str]:
    """Check what both requests have; return the headers of the answer."""
    ignored = unknown_fields(body, request.__struct_fields__, is_strict=service.strict)
    if request.model is not None and service.group_of(request.model) is None:
        raise model_not_found(request.model)
    return ignored_header(ignored)


async def _token_ids(request: TokenizeRequest, service: Service) -> list[int]:
    adds_special = request.add_special_tokens
    if request.prompt is None:
        conversation = PlainConversation(
            messages=request.messages or [],
            tools=request.tools,
            documents=request.documents,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            chat_template_kwargs=request.chat_template_kwargs,
            chat_template=request.chat_template,
        )
        check_conversation(conversation)
        return await encode_conversation(
            conversation,
            request.tools,
            service.chat_templates,
            add_special_tokens=bool(adds_special),
        )
    try:
        return await asyncio.to_thread(
            service.tokenizer.encode, request.prompt, add_special_tokens=adds_special is not False
        )
    except TokenizerError as error:
        raise invalid(f"Invalid 'prompt': {error}.", "prompt") from None
