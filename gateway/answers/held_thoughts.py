"""Answers that begin with a thought: how long it may be, and that a grammar begins after it.

Called once a request.
"""

import msgspec

from backend.wire.sampling import SamplingParams, Thought
from gateway.answers.held_calls import calls_within_thoughts
from gateway.errors import invalid
from gateway.notations.messages_grammar import messages_grammar
from gateway.notations.served import ServedNotation
from gateway.requests.grammars import validate
from gateway.requests.text_request import ToolUse
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

# What models put between a thought and what they say.
_SPACES = ("\n", "\n\n", " ")


async def with_held_thought(
    params: SamplingParams,
    notation: ServedNotation,
    service: Service,
    *,
    is_thinking: bool,
    max_tokens: int | None,
    tools: ToolUse | None = None,
) -> SamplingParams:
    """Return the parameters of an answer that may begin with a thought.

    is_thinking: the prompt ends within it. max_tokens: of the thought; None for no limit. tools:
    those whose calls are held, behind the thought and so within it.
    """
    form = notation.form
    if params.grammar is None and max_tokens is None:
        return params
    if form.messages is not None:
        return await _in_messages(params, notation, service, max_tokens)
    reasoning = form.reasoning
    if reasoning is None:
        return params
    encode = service.tokenizer.encode
    try:
        closing, opening = (
            tuple(encode(mark.strip(), add_special_tokens=False))
            for mark in (reasoning.close, reasoning.open)
        )
        spaces = [encode(text, add_special_tokens=False) for text in _SPACES]
    except TokenizerError as error:
        raise invalid(f"The marks of thoughts are no tokens: {error}.", None) from None
    calls = None
    if tools is not None and params.grammar is not None and service.grammar_validator is not None:
        calls = await calls_within_thoughts(tools, notation, service.grammar_validator)
    thought = Thought(
        closing=closing,
        closing_text=reasoning.close.strip(),
        opening=() if is_thinking else opening,
        max_tokens=max_tokens,
        space_ids=tuple(ids[0] for ids in spaces if len(ids) == 1),
        calls=calls,
        closes_alone=reasoning.close in form.ignored,
    )
    return msgspec.structs.replace(params, thought=thought)


async def _in_messages(
    params: SamplingParams, notation: ServedNotation, service: Service, max_tokens: int | None
) -> SamplingParams:
    """Return the parameters of an answer in messages, whose grammar holds thoughts as well."""
    if service.grammar_validator is None:
        return params
    grammar = messages_grammar(notation, None, body=params.grammar, max_thought_tokens=max_tokens)
    grammar = await validate(grammar, service.grammar_validator, param="response_format")
    return msgspec.structs.replace(params, grammar=grammar)
