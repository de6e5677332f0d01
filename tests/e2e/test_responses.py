"""POST /v1/responses with openai's client and the default model."""

from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.clients import openai_client
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

MODEL = "SmolLM2-135M-Instruct"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Bern", "Basel"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
QUESTION: Any = {"role": "user", "content": "What is the weather in Bern?"}


class Animal(BaseModel):
    """What an answer must be."""

    name: str
    legs: int


def test_text_and_its_stream_are_the_same(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "input": "Say hello.", "temperature": 0}
    whole = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert whole.output_text and whole.output_text == "".join(pieces) == final.output_text
    assert whole.usage is not None and final.usage is not None
    assert whole.usage.output_tokens == final.usage.output_tokens
    chat = client.chat.completions.create(
        model=MODEL, temperature=0, messages=[{"role": "user", "content": "Say hello."}]
    )
    assert chat.choices[0].message.content == whole.output_text


def test_answer_is_parsed_into_a_type(client: openai.OpenAI) -> None:
    response = client.responses.parse(
        model=MODEL, input="Describe a dog.", text_format=Animal, temperature=0
    )
    assert isinstance(response.output_parsed, Animal)


def test_call_goes_out_and_its_output_comes_back(tool_server: Server) -> None:
    client = openai_client(tool_server.url)
    items: list[Any] = [QUESTION]
    asked: Any = {
        "model": MODEL,
        "tools": [WEATHER],
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_output_tokens": 60,
    }
    response = client.responses.create(input=items, tool_choice="required", **asked)
    [call] = response.output
    assert call.type == "function_call"
    assert (call.name, call.arguments) in {
        ("weather", '{"city": "Bern"}'),
        ("weather", '{"city": "Basel"}'),
    }
    with client.responses.stream(input=items, tool_choice="required", **asked) as stream:
        final = stream.get_final_response()
    assert final.output[0].arguments == call.arguments  # type: ignore[union-attr]
    items += [call.model_dump(exclude_none=True)]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    before = client.responses.input_tokens.count(model=MODEL, input=[QUESTION], tools=[WEATHER])
    answer = client.responses.create(input=items, **asked)
    assert answer.usage is not None
    assert answer.usage.input_tokens > before.input_tokens
    # The turn before is the beginning of this one.
    assert answer.usage.input_tokens_details.cached_tokens > 0


def test_refusals_are_the_clients_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no answer is stored"):
        client.responses.create(model=MODEL, input="hi", previous_response_id="resp_1")
    with pytest.raises(openai.NotFoundError, match="No answer is stored"):
        client.responses.retrieve("resp_1")
    with pytest.raises(openai.BadRequestError) as refusal:
        client.responses.create(model=MODEL, input="x " * 9000)
    assert refusal.value.param == "input"
