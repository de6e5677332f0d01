"""What a LangChain program does with ChatOpenAI: whole, streamed, and structured answers, tools.

Run in LangChain's own venv with a server's URL and a model's name. Prints how many of its steps
passed; a step that fails ends it with that step's error.
"""

import sys
from typing import Literal

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]
from pydantic import BaseModel, ConfigDict, Field


class Weather(BaseModel):
    """What the model is asked to tell; bounded, for it is a random one."""

    model_config = ConfigDict(extra="forbid")

    city: str = Field(max_length=8)
    sky: Literal["clear", "cloudy"]
    is_warm: bool


def main(url: str, model: str) -> int:
    """Return the number of steps, all of which passed."""
    chat = ChatOpenAI(
        model=model, base_url=f"{url}/v1", api_key="none", max_retries=0, max_tokens=200, seed=1
    )
    messages = [("system", "You are terse."), ("human", "How is the weather in Oslo?")]

    whole = chat.invoke(messages)
    assert whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] in ("stop", "length")

    pieces = list(chat.stream(messages, stream_usage=True))
    assert "".join(piece.content for piece in pieces) == whole.content
    counts = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert [count["output_tokens"] for count in counts] == [whole.usage_metadata["output_tokens"]]

    structured = chat.with_structured_output(Weather, method="json_schema")
    assert isinstance(structured.invoke(messages), Weather)

    called = chat.bind_tools([Weather], tool_choice="Weather").invoke(messages)
    [call] = called.tool_calls
    assert call["name"] == "Weather"
    Weather.model_validate(call["args"])
    return 4


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
