"""What a LangChain program does with ChatAnthropic: whole, streamed and structured answers, tools.

Run in LangChain's own venv with a server's URL and a model's name. Prints how many of its steps
passed; a step that fails ends it with that step's error.
"""

import sys
from typing import Literal

from langchain_anthropic import ChatAnthropic  # type: ignore[import-not-found]
from langchain_core.messages import (  # type: ignore[import-not-found]
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel, ConfigDict


class Weather(BaseModel):
    """What the model is asked to tell. No text: a random model would not end one."""

    model_config = ConfigDict(extra="forbid")

    sky: Literal["clear", "cloudy"]
    is_warm: bool


def main(url: str, model: str) -> int:
    """Return the number of steps, all of which passed."""
    chat = ChatAnthropic(
        model=model, base_url=url, api_key="none", max_retries=0, max_tokens=200, temperature=0
    )
    messages = [SystemMessage("You are terse."), HumanMessage("How is the weather in Oslo?")]

    whole = chat.invoke(messages)
    assert whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["stop_reason"] in ("end_turn", "max_tokens")

    pieces = list(chat.stream(messages))
    assert "".join(piece.text for piece in pieces) == whole.text
    total = pieces[0]
    for piece in pieces[1:]:
        total += piece
    assert total.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"]

    forced = chat.bind_tools([Weather], tool_choice="Weather")
    called = forced.invoke(messages)
    [call] = called.tool_calls
    assert call["name"] == "Weather"
    Weather.model_validate(call["args"])

    result = ToolMessage("It is night.", tool_call_id=call["id"])
    answered = chat.bind_tools([Weather]).invoke([*messages, called, result])
    assert answered.usage_metadata["input_tokens"] > whole.usage_metadata["input_tokens"]

    structured = chat.with_structured_output(Weather)
    assert isinstance(structured.invoke(messages), Weather)
    by_schema = chat.with_structured_output(Weather, method="json_schema")
    assert isinstance(by_schema.invoke(messages), Weather)
    return 6


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
