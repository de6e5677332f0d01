"""POST /v1/chat/completions: from messages to submitted sequences, and their text back.

Owns the order of the steps and what the conversation leaves room for. Must not know how messages
become tokens (conversation.py) nor what an answer looks like (chat_answer.py).
"""

import secrets
import time

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from backend.wire.sampling import Grammar, SamplingParams
from gateway.answers.chat_answer import ChatChunks, ChatFormatter
from gateway.answers.choice import make_choices
from gateway.answers.delivery import respond
from gateway.answers.tools import calls_grammar
from gateway.errors import invalid
from gateway.requests.context_length import ContextLength
from gateway.requests.conversation import encode_conversation
from gateway.requests.grammars import validate
from gateway.requests.limits import check_num_choices, check_num_logprobs
from gateway.requests.parameters import sampling_params, seeded_params
from gateway.requests.parsed_request import parse_request
from gateway.requests.prompt import Prompt
from gateway.sandbox.grammar_validator import GrammarValidator
from gateway.schema.chat import ChatChunk, ChatRequest
from gateway.schema.messages import NamedToolChoice
from gateway.service import Service

_decoder = msgspec.json.Decoder(ChatRequest)


async def create_chat_completion(http_request: Request) -> Response:
    """Answer a conversation n times, streamed or in one piece."""
    service: Service = http_request.app.state.service
    parsed = await parse_request(http_request, _decoder)
    request = parsed.request
    prompt, max_tokens = await _prompt(request, service)
    shared = await sampling_params(
        request,
        service,
        max_tokens=max_tokens,
        logprobs=request.num_logprobs,
        prompt_logprobs=request.prompt_logprobs,
        headers=parsed.headers,
    )
    if request.is_call_required:
        shared = await _calling(shared, request, service.grammar_validator)
    params = seeded_params(shared, request.seed, request.num_choices)
    choices = make_choices([prompt], [params], request, service.tokenizer)
    formatter = ChatFormatter(request, service.tokenizer)
    base = ChatChunk(
        id=f"chatcmpl-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=request.model,
        system_fingerprint=service.system_fingerprint,
        choices=[],
        usage=None if request.include_usage else UNSET,
    )
    return await respond(
        http_request,
        parsed,
        choices,
        chunks=lambda queue: ChatChunks(base, formatter, queue),
        response=lambda collector: formatter.response(base, choices, collector),
    )


async def _prompt(request: ChatRequest, service: Service) -> tuple[Prompt, int]:
    """Return the tokens of the conversation, and how many may follow."""
    check_num_choices(1, request.num_choices, service.limits, request)
    context, tokenizer = ContextLength(service.pool), service.tokenizer
    wanted = request.max_output_tokens
    num_wanted = 1 if wanted is None else wanted
    all_ids = await encode_conversation(
        request,
        request.usable_tools,
        service.chat_templates,
        add_special_tokens=bool(request.add_special_tokens),
        check=lambda text: context.check_texts([text], tokenizer, num_wanted, request),
    )
    token_ids = context.truncate(all_ids, num_wanted, request)
    most = service.sampling_defaults.max_new_tokens or context.num_tokens
    num_left = context.num_tokens - len(token_ids)
    max_tokens = max(1, min(num_left, most)) if wanted is None else wanted
    context.check(len(token_ids), max_tokens, request)
    num_logprobs = 0
    if request.prompt_logprobs is not None:
        num_logprobs += len(token_ids) * (request.prompt_logprobs + 1)
    if request.num_logprobs is not None and wanted is not None:
        num_logprobs += wanted * (request.num_logprobs + 1)
    param = "top_logprobs" if request.prompt_logprobs is None else "prompt_logprobs"
    check_num_logprobs(num_logprobs * request.num_choices, service.limits, param)
    return Prompt(token_ids, is_continued=not service.has_encoder), max_tokens


async def _calling(
    params: SamplingParams, request: ChatRequest, validator: GrammarValidator | None
) -> SamplingParams:
    """Return the parameters of an answer that must be a tool call."""
    choice = request.tool_choice
    functions = [
        (tool.function.name, tool.function.parameters or {"type": "object"})
        for tool in request.tools or []
        if not isinstance(choice, NamedToolChoice) or tool.function.name == choice.function.name
    ]
    is_single = isinstance(choice, NamedToolChoice) or request.parallel_tool_calls is False
    grammar = Grammar("lark", calls_grammar(functions, allows_parallel=not is_single))
    if validator is None:
        message = "This server cannot make an answer be a tool call; 'auto' leaves it to the model."
        raise invalid(message, "tool_choice", "unsupported_parameter")
    grammar = await validate(grammar, validator, param="tools")
    return msgspec.structs.replace(params, grammar=grammar)
