"""What a program with LiteLLM does: one question in every form it knows, whole and streamed.

Run in its own venv with the URL and model of a server that calls `weather`. Prints how many of its
steps passed; one that fails ends it with that step's error.
"""

import json
import sys
from typing import Any

import litellm  # type: ignore[import-not-found]

TEXT = "Let me ask."
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
MESSAGES = [{"role": "user", "content": "How is the weather?"}]


def ask_chat(model: str, base: str) -> int:
    """Get a thought, a text and a call."""
    given = {"model": model, "api_base": base, "messages": MESSAGES, "tools": [TOOL]}
    whole = litellm.completion(**given)
    chunks = list(litellm.completion(**given, stream=True))
    for answer in (whole, litellm.stream_chunk_builder(chunks, messages=MESSAGES)):
        message = answer.choices[0].message
        assert message.content.strip() == TEXT, message
        assert message.reasoning_content == "How is it there?", message
        [call] = message.tool_calls
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments) == {"city": "Bern"}
        assert answer.choices[0].finish_reason == "tool_calls"
    return 2


def ask_responses(model: str, base: str) -> int:
    """Get the same by the form of Responses."""
    tool = {"type": "function", **TOOL["function"]}
    given = {"model": model, "api_base": base, "input": "How is the weather?", "tools": [tool]}
    *_, completed = litellm.responses(**given, stream=True)
    for answer in (litellm.responses(**given), completed.response):
        kinds = [item.type for item in answer.output]
        assert kinds == ["reasoning", "message", "function_call"], kinds
        assert json.loads(answer.output[-1].arguments) == {"city": "Bern"}
    return 2


def main(url: str, model: str) -> int:
    """Return the number of steps, all of which passed."""
    litellm.api_key = "none"
    passed = 0
    for name, base in (
        (f"openai/{model}", f"{url}/v1"),
        (f"hosted_vllm/{model}", f"{url}/v1"),
        (f"anthropic/{model}", url),
    ):
        passed += ask_chat(name, base)
    return passed + ask_responses(f"openai/{model}", f"{url}/v1")


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
