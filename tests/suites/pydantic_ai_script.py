"""What a program with pydantic-ai does: agents with tools, streamed and not, structured outputs.

Run in its own venv with the URL and model of a server that calls `weather` and then answers, and
of one that writes at random. Prints how many of its steps passed; one that fails ends it with that
step's error.
"""

import asyncio
import sys
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic_ai import (  # type: ignore[import-not-found]
    Agent,
    ModelSettings,
    NativeOutput,
    TextPartDelta,
    ToolOutput,
)
from pydantic_ai.models.anthropic import AnthropicModel  # type: ignore[import-not-found]
from pydantic_ai.models.openai import (  # type: ignore[import-not-found]
    OpenAIChatModel,
    OpenAIResponsesModel,
)
from pydantic_ai.providers.anthropic import AnthropicProvider  # type: ignore[import-not-found]
from pydantic_ai.providers.openai import OpenAIProvider  # type: ignore[import-not-found]

ANSWER = "It is 3 °C in Bern — cold."


class Weather(BaseModel):
    """What the model is asked to tell. No text: a random model would not end one."""

    model_config = ConfigDict(extra="forbid")

    sky: Literal["clear", "cloudy"]
    is_warm: bool


def models_of(url: str, name: str) -> list[Any]:
    """Return pydantic-ai's models of one server, one for each dialect."""
    openai = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
    anthropic = AnthropicProvider(base_url=url, api_key="none")
    return [
        OpenAIChatModel(name, provider=openai),
        OpenAIResponsesModel(name, provider=openai),
        AnthropicModel(name, provider=anthropic),
    ]


async def ask_with_a_tool(model: Any) -> int:
    """Let an agent call its tool, whole and streamed."""
    asked: list[str] = []
    agent: Any = Agent(model, instructions="Be terse.")

    @agent.tool_plain  # type: ignore[untyped-decorator]
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        asked.append(city)
        return "3 °C"

    result = await agent.run("How is the weather?")
    assert result.output == ANSWER, result.output
    assert asked == ["Bern"]
    assert result.usage.input_tokens > 0 and result.usage.requests == 2, result.usage
    again = await agent.run("And now?", message_history=result.all_messages())
    assert again.output == ANSWER

    pieces: list[str] = []
    async with agent.run_stream_events("How is the weather?") as events:
        async for event in events:
            delta = getattr(event, "delta", None)
            if isinstance(delta, TextPartDelta):
                pieces.append(delta.content_delta)
    assert event.result.output == ANSWER
    assert len(pieces) > 2, pieces
    return 3


async def ask_for_structure(model: Any) -> int:
    """Get an object by a tool and by a schema."""
    settings = ModelSettings(temperature=0.0, max_tokens=200)
    outputs = [ToolOutput(Weather)]
    if not isinstance(model, AnthropicModel):  # pydantic-ai takes only Claude for able
        outputs.append(NativeOutput(Weather))
    for output in outputs:
        agent: Any = Agent(model, output_type=output, model_settings=settings, retries=0)
        result = await agent.run("How is the weather?")
        assert isinstance(result.output, Weather)
    return len(outputs)


async def main(scripted_url: str, random_url: str, name: str) -> int:
    """Return the number of steps, all of which passed."""
    passed = 0
    for model in models_of(scripted_url, name):
        passed += await ask_with_a_tool(model)
    for model in models_of(random_url, name):
        passed += await ask_for_structure(model)
    return passed


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:])))
