"""From a request for text to the token ids of its prompts, whatever it asks to be answered.

Owns what a conversation leaves room for. Must not know how texts and messages become tokens
(prompt.py, conversation.py), nor dialects or HTTP. Called once a request.
"""

from collections.abc import Sequence

from gateway.requests.context_length import ContextLength
from gateway.requests.conversation import encode_conversation
from gateway.requests.limits import check_num_choices, check_num_logprobs
from gateway.requests.prompt import Prompt, encode_prompts
from gateway.requests.text_request import PlainPrompts, TextRequest
from gateway.schema.messages import ConversationFields
from gateway.service import Service


async def encode_request(
    request: TextRequest, service: Service, salt: str
) -> tuple[Sequence[Prompt], int]:
    """Return the prompts of a request, and how many tokens may follow each.

    salt: conversations under equal ones share what was tokenised before.

    Raises ApiError for what the model does not take.
    """
    source, wanted = request.source, request.max_tokens
    if isinstance(source, PlainPrompts):
        prompts = await encode_prompts(request, source, 1 if wanted is None else wanted, service)
        if wanted is None:
            longest = max(len(prompt.token_ids) for prompt in prompts)
            wanted = max(1, ContextLength(service.pool).num_tokens - longest)
        return prompts, wanted
    check_num_choices(1, request.num_candidates, service.limits, request.fields)
    least = _least_tokens(request)
    all_ids = await encode_messages(request, source, service, salt)
    context = ContextLength(service.pool)
    token_ids = context.truncate(all_ids, least, request)
    num_left = context.num_tokens - len(token_ids)
    if wanted is None:
        most = service.sampling_defaults.max_new_tokens or context.num_tokens
        max_tokens = max(1, min(num_left, most))
    else:
        max_tokens = min(wanted, max(least, num_left))
    context.check(len(token_ids), max_tokens, request)
    num_logprobs = 0
    if request.prompt_logprobs is not None:
        num_logprobs += len(token_ids) * (request.prompt_logprobs + 1)
    if request.logprobs is not None and wanted is not None:
        num_logprobs += wanted * (request.logprobs + 1)
    param = "top_logprobs" if request.prompt_logprobs is None else "prompt_logprobs"
    check_num_logprobs(num_logprobs * request.num_candidates, service.limits, param)
    return [Prompt(token_ids, is_continued=not service.has_encoder)], max_tokens


async def encode_messages(
    request: TextRequest, conversation: ConversationFields, service: Service, salt: str
) -> list[int]:
    """Return the token ids of a request's conversation, all of them."""
    context, tokenizer = ContextLength(service.pool), service.tokenizer
    least = _least_tokens(request)
    return await encode_conversation(
        conversation,
        request.tools.told if request.tools is not None else None,
        service.chat_templates,
        add_special_tokens=bool(request.fields.add_special_tokens),
        check=lambda text: context.check_texts([text], tokenizer, least, request),
        salt=salt,
    )


def _least_tokens(request: TextRequest) -> int:
    """Return for how many tokens of output there must be room."""
    wanted = request.max_tokens
    if wanted is None:
        return 1
    return min(wanted, 1) if request.takes_what_fits else wanted
