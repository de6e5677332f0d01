"""Takeoff's generate and generate_stream: what their bodies mean.

What a request leaves out, or null, is what Takeoff's documentation says it is: greedy, 128 tokens.
Must not know templates, tokens or HTTP. Its types are in schema/takeoff.py, its answers in
takeoff_answer.py.
"""

from collections.abc import Sequence

import msgspec

from gateway.dialects.dialect import Dialect
from gateway.dialects.takeoff_answer import TakeoffAnswer
from gateway.requests.text_request import PlainPrompts, TextRequest
from gateway.schema.sampling import SamplingFields, given
from gateway.schema.structured import StructuredOutputs
from gateway.schema.takeoff import TakeoffRequest


def read_generate(request: TakeoffRequest) -> TextRequest:
    """Return what a request asks for, its answer in one piece."""
    return text_request(request, request.texts, is_streamed=False)


def read_stream(request: TakeoffRequest) -> TextRequest:
    """Return what a request asks for, its answer streamed."""
    return text_request(request, request.texts, is_streamed=True)


def text_request(
    request: TakeoffRequest, prompts: Sequence[str | list[int]], *, is_streamed: bool
) -> TextRequest:
    """Return what a request asks for. prompts: its texts, or the token ids that they became."""
    top_k = given(request.sampling_topk, 1)
    # Of one token, the likeliest is drawn at any temperature: the greedy way is the shorter.
    temperature = 0.0 if top_k == 1 else given(request.sampling_temperature, 1.0)
    fields = SamplingFields(
        model=request.model,
        max_tokens=request.max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=given(request.sampling_topp, 1.0),
        min_p=0.0,
        repetition_penalty=given(request.repetition_penalty, 1.0),
        presence_penalty=0.0,
        frequency_penalty=0.0,
        no_repeat_ngram_size=given(request.no_repeat_ngram_size, 0),
        min_tokens=request.min_new_tokens,
        stream=is_streamed,
        structured_outputs=_structured_outputs(request),
        truncate_prompt_tokens=request.prompt_max_tokens,
    )
    return TextRequest(
        source=PlainPrompts(prompts=prompts),
        fields=fields,
        max_tokens=request.max_tokens,
        is_streamed=is_streamed,
        prompt_field="text",
        max_tokens_field="max_new_tokens",
    )


def _structured_outputs(request: TakeoffRequest) -> StructuredOutputs | None:
    """Return what the answer must match; of both, the pattern counts."""
    if request.regex_string is not None:
        return StructuredOutputs(regex=request.regex_string)
    if request.json_schema is not None:
        return StructuredOutputs(json=request.json_schema)
    return None


# What refusals call by other names.
TAKEOFF_WORDS = {
    "prompt": "text",
    "messages": "text",
    "input": "text",
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "structured_outputs.regex": "regex_string",
    "structured_outputs.json": "json_schema",
    "structured_outputs": "json_schema",
    "truncate_prompt_tokens": "prompt_max_tokens",
}

_decoder = msgspec.json.Decoder(TakeoffRequest)
TAKEOFF_GENERATE = Dialect(_decoder, read_generate, TakeoffAnswer, TAKEOFF_WORDS)
TAKEOFF_STREAM = Dialect(_decoder, read_stream, TakeoffAnswer, TAKEOFF_WORDS)
