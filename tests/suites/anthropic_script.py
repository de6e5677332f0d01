"""What programs do with Anthropic's own client: whole, streamed and structured answers, tools.

Run in the client's own venv with a server's URL and a model's name. Every answer and every event is
compared with the client's types. Prints how many of its steps passed; a step that fails ends it
with that step's error.
"""

import asyncio
import sys
from typing import Any, Literal

import anthropic  # type: ignore[import-not-found]
from anthropic.types import RawMessageStreamEvent  # type: ignore[import-not-found]
from pydantic import BaseModel, ConfigDict, TypeAdapter

ASKED: list[Any] = [{"role": "user", "content": "How is the weather in Oslo?"}]
SYSTEM = [{"type": "text", "text": "You are terse.", "cache_control": {"type": "ephemeral"}}]
TOOL = {
    "name": "weather",
    "description": "Looks out of the window.",
    "input_schema": {
        "type": "object",
        "properties": {"sky": {"enum": ["clear", "cloudy"]}, "is_warm": {"type": "boolean"}},
        "required": ["sky", "is_warm"],
        "additionalProperties": False,
    },
}
FORCED = {"type": "tool", "name": "weather"}
EVENTS = TypeAdapter(RawMessageStreamEvent)


class Weather(BaseModel):
    """What the model is asked to tell. No text: the client takes limits of length out of schemas,
    and a random model does not end one by itself."""

    model_config = ConfigDict(extra="forbid")

    sky: Literal["clear", "cloudy"]
    is_warm: bool


class Steps:
    """What is tried, each step by a method of its own."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
        self.common = {"model": model, "max_tokens": 24, "temperature": 0, "messages": ASKED}
        self.model = model

    def create(self, **fields: Any) -> Any:
        """Return a message, compared with its type."""
        asked = {**self.common, **fields}
        # The client has no argument for what newer models of Anthropic's do not take.
        extra = {"temperature": asked.pop("temperature")}
        message = self.client.messages.create(**asked, extra_body=extra)
        anthropic.types.Message.model_validate(message.to_dict(), strict=False)
        return message

    def whole_answer(self) -> None:
        message = self.create(system=SYSTEM, metadata={"user_id": "somebody"})
        assert message.usage.output_tokens > 0
        assert message.stop_reason in ("end_turn", "max_tokens")
        assert message._request_id
        assert message.id.startswith("msg_")

    def raw_events(self) -> None:
        body = {"stream": True, "extra_body": {"temperature": 0}}
        asked = {name: value for name, value in self.common.items() if name != "temperature"}
        kinds = []
        for event in self.client.messages.create(**asked, **body):
            EVENTS.validate_python(event.to_dict())
            kinds.append(event.type)
        assert kinds[:2] == ["message_start", "content_block_start"], "the client drops pings"
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]

    def stream_helper(self) -> None:
        asked = {name: value for name, value in self.common.items() if name != "temperature"}
        with self.client.messages.stream(**asked, extra_body={"temperature": 0}) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        [block] = final.content
        whole = self.create()
        assert text == block.text == whole.content[0].text
        assert final.usage.output_tokens == whole.usage.output_tokens

    def tools_round_trip(self) -> None:
        asked = {"tools": [TOOL], "tool_choice": FORCED, "max_tokens": 300}
        called = self.create(**asked)
        assert called.stop_reason == "tool_use"
        [call] = called.content
        assert call.name == "weather" and set(call.input) == {"sky", "is_warm"}
        with self.client.messages.stream(
            model=self.model, messages=ASKED, extra_body={"temperature": 0}, **asked
        ) as stream:
            [streamed] = stream.get_final_message().content
        assert streamed.input == call.input
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "It is night."}
        turns = [
            *ASKED,
            {"role": "assistant", "content": called.content},
            {"role": "user", "content": [result]},
        ]
        answered = self.create(messages=turns, tools=[TOOL])
        assert answered.usage.input_tokens + answered.usage.cache_read_input_tokens > 0

    def tool_choice_none(self) -> None:
        message = self.create(tools=[TOOL], tool_choice={"type": "none"})
        assert message.stop_reason != "tool_use"

    def structured_answer(self) -> None:
        message = self.client.messages.parse(
            model=self.model, max_tokens=200, messages=ASKED, output_format=Weather
        )
        assert isinstance(message.parsed_output, Weather)

    def tokens_are_counted(self) -> None:
        asked = {"system": SYSTEM, "tools": [TOOL], "messages": ASKED}
        counted = self.client.messages.count_tokens(model=self.model, **asked)
        usage = self.create(**asked).usage
        assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens

    def stop_sequence(self) -> None:
        text = self.create().content[0].text
        stop = next(text[i : i + 3] for i in range(4, len(text)) if text[i : i + 3].strip())
        message = self.create(stop_sequences=["never there", stop])
        assert message.stop_reason == "stop_sequence" and message.stop_sequence == stop
        assert text.startswith("".join(block.text for block in message.content))

    def beta(self) -> None:
        message = self.client.beta.messages.create(
            model=self.model,
            max_tokens=8,
            messages=ASKED,
            betas=["interleaved-thinking-2025-05-14"],
        )
        assert message.type == "message"

    def models(self) -> None:
        names = [model.id for model in self.client.models.list()]
        assert self.model in names
        card = self.client.models.retrieve(self.model)
        assert card.type == "model" and card.max_input_tokens > 0 and card.created_at.year > 2000

    def asynchronous(self) -> None:
        async def ask() -> str:
            async with anthropic.AsyncAnthropic(base_url=self.url, api_key="none") as client:
                asked = {n: value for n, value in self.common.items() if n != "temperature"}
                async with client.messages.stream(**asked, extra_body={"temperature": 0}) as stream:
                    return "".join([text async for text in stream.text_stream])

        assert asyncio.run(ask()) == self.create().content[0].text

    def errors(self) -> None:
        image = {"type": "image", "source": {"type": "base64", "media_type": "x", "data": ""}}
        self._refused(
            anthropic.BadRequestError,
            "invalid_request_error",
            messages=[{"role": "user", "content": [image]}],
        )
        search = {"type": "web_search_20250305", "name": "web_search"}
        self._refused(anthropic.BadRequestError, "invalid_request_error", tools=[search])
        self._refused(anthropic.NotFoundError, "not_found_error", model="claude-opus-9")
        long = [{"role": "user", "content": "x " * 20_000}]
        error = self._refused(anthropic.BadRequestError, "invalid_request_error", messages=long)
        assert "prompt is too long" in error.message

    def _refused(self, kind: type[Exception], type_: str, **fields: Any) -> Any:
        try:
            self.create(**fields)
        except kind as error:
            body: Any = error.body  # type: ignore[attr-defined]
            assert body["type"] == "error" and body["error"]["type"] == type_, body
            assert body["request_id"] == error.request_id  # type: ignore[attr-defined]
            return error
        raise AssertionError(f"{fields} was not refused")


def main(url: str, model: str) -> int:
    """Return the number of steps, all of which passed."""
    steps = Steps(url, model)
    tried = (
        steps.whole_answer,
        steps.raw_events,
        steps.stream_helper,
        steps.tools_round_trip,
        steps.tool_choice_none,
        steps.structured_answer,
        steps.tokens_are_counted,
        steps.stop_sequence,
        steps.beta,
        steps.models,
        steps.asynchronous,
        steps.errors,
    )
    for step in tried:
        step()
    return len(tried)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
