"""What a program with instructor does: objects out of a chat, in each of its modes.

Run in its own venv with a server's URL and a model's name. Prints how many of its steps passed; one
that fails ends it with that step's error.
"""

import sys
from typing import Any, Literal

import anthropic  # type: ignore[import-not-found]
import instructor  # type: ignore[import-not-found]
import openai
from pydantic import BaseModel, ConfigDict


class Weather(BaseModel):
    """What the model is asked to tell. No text: a random model would not end one."""

    model_config = ConfigDict(extra="forbid")

    sky: Literal["clear", "cloudy"]
    is_warm: bool


MESSAGES: Any = [{"role": "user", "content": "How is the weather?"}]


def main(url: str, model: str) -> int:
    """Return the number of steps, all of which passed."""
    passed = 0
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    modes = instructor.Mode
    for mode in (modes.TOOLS, modes.TOOLS_STRICT, modes.JSON_SCHEMA):
        chat = instructor.from_openai(client, mode=mode)
        given = {"model": model, "messages": MESSAGES, "max_tokens": 200, "max_retries": 0}
        assert isinstance(chat.create(response_model=Weather, **given), Weather)
        partial = list(chat.create_partial(response_model=Weather, **given))
        assert partial[-1].sky in ("clear", "cloudy")
        passed += 2
    responses = instructor.from_openai(client, mode=modes.RESPONSES_TOOLS)
    given = {"model": model, "input": "How is the weather?", "max_output_tokens": 200}
    assert isinstance(responses.responses.create(response_model=Weather, **given), Weather)
    messages = instructor.from_anthropic(
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0),
        mode=modes.ANTHROPIC_TOOLS,
    )
    given = {"model": model, "messages": MESSAGES, "max_tokens": 200, "max_retries": 0}
    assert isinstance(messages.create(response_model=Weather, **given), Weather)
    return passed + 2


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
