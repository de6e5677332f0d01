"""POST /tokenize and /detokenize: how this model cuts text, in the shapes that vLLM gave them."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.logprobs import token_text
from gateway.errors import invalid, model_not_found
from gateway.requests.body import decode_body, json_response, read_body
from gateway.requests.conversation import encode_conversation
from gateway.requests.prompt import MAX_INLINE_LENGTH, check_token_ids
from gateway.requests.unknown_fields import ignored_header, unknown_fields
from gateway.schema.messages import check_conversation
from gateway.schema.tokenize import (
    DetokenizedText,
    DetokenizeRequest,
    MessagesToTokenize,
    TokenizeRequest,
    Tokens,
)
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

_tokenize_decoder = msgspec.json.Decoder(TokenizeRequest)
_detokenize_decoder = msgspec.json.Decoder(DetokenizeRequest)


async def tokenize(request: Request) -> Response:
    """Return the token ids of a prompt or a conversation."""
    service: Service = request.app.state.service
    body = await read_body(request, service)
    asked = decode_body(body, _tokenize_decoder, service.limits.max_json_depth)
    headers = _checked(asked, body, service)
    asked.check()
    token_ids = await _token_ids(asked, service)
    tokens = Tokens(
        count=len(token_ids),
        max_model_len=service.pool.max_model_len,
        tokens=token_ids,
        token_strs=[token_text(token_id, service.tokenizer) for token_id in token_ids]
        if asked.return_token_strs
        else None,
    )
    return json_response(tokens, headers=headers)


async def detokenize(request: Request) -> Response:
    """Return the text of token ids."""
    service: Service = request.app.state.service
    body = await read_body(request, service)
    asked = decode_body(body, _detokenize_decoder, service.limits.max_json_depth)
    headers = _checked(asked, body, service)
    check_token_ids(asked.tokens, service, "tokens")
    decode = service.tokenizer.decode
    if len(asked.tokens) > MAX_INLINE_LENGTH:
        text = await asyncio.to_thread(decode, asked.tokens, skip_special_tokens=False)
    else:
        text = decode(asked.tokens, skip_special_tokens=False)
    return json_response(DetokenizedText(text), headers=headers)


def _checked(
    asked: TokenizeRequest | DetokenizeRequest, body: bytes, service: Service
) -> dict[str, str]:
    """Check what both requests have; return the headers of the answer."""
    ignored = unknown_fields(body, asked.__struct_fields__, is_strict=service.strict)
    if asked.model is not None and asked.model not in service.model_names:
        raise model_not_found(asked.model)
    return ignored_header(ignored)


async def _token_ids(asked: TokenizeRequest, service: Service) -> list[int]:
    adds_special = asked.add_special_tokens
    if asked.prompt is None:
        conversation = MessagesToTokenize(
            messages=asked.messages or [],
            tools=asked.tools,
            documents=asked.documents,
            add_generation_prompt=asked.add_generation_prompt,
            continue_final_message=asked.continue_final_message,
            chat_template_kwargs=asked.chat_template_kwargs,
            chat_template=asked.chat_template,
        )
        check_conversation(conversation)
        return await encode_conversation(
            conversation, asked.tools, service, add_special_tokens=bool(adds_special)
        )
    try:
        return await asyncio.to_thread(
            service.tokenizer.encode, asked.prompt, add_special_tokens=adds_special is not False
        )
    except TokenizerError as error:
        raise invalid(f"Invalid 'prompt': {error}.", "prompt") from None
