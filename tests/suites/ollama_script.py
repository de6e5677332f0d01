"""What programs do with Ollama's own client: models, chats and prompts, whole and streamed.

Run in the client's own venv with a server's URL and a model's name. Prints how many of its steps
passed; a step that fails ends it with that step's error.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import ollama  # type: ignore[import-not-found]

ASKED: list[Any] = [{"role": "user", "content": "How is the weather in Oslo?"}]
OPTIONS = {"temperature": 0, "num_predict": 12, "num_ctx": 512}
SCHEMA = {
    "type": "object",
    "properties": {"sky": {"enum": ["clear", "cloudy"]}},
    "required": ["sky"],
    "additionalProperties": False,
}


def models(client: Any, model: str) -> None:
    """The name is listed and can be looked at."""
    assert model in [listed.model for listed in client.list().models]
    shown = client.show(model)
    assert "completion" in shown.capabilities
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] > 0


def chat(client: Any, model: str) -> None:
    """Lines of a chat are the chat in pieces."""
    whole = client.chat(f"{model}:latest", ASKED, options=OPTIONS)
    *pieces, last = client.chat(model, ASKED, options=OPTIONS, stream=True)
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert last.done and last.done_reason == whole.done_reason
    assert last.eval_count == whole.eval_count and last.eval_duration > 0


def generate(client: Any, model: str) -> None:
    """Lines of an answer are the answer in pieces, raw or not."""
    for raw in (False, True):
        whole = client.generate(model, "Once upon", raw=raw, options=OPTIONS)
        pieces = client.generate(model, "Once upon", raw=raw, options=OPTIONS, stream=True)
        assert "".join(piece.response for piece in pieces) == whole.response


def structured(client: Any, model: str) -> None:
    """A schema is followed."""
    options = {**OPTIONS, "num_predict": 64}
    answer = client.chat(model, ASKED, format=SCHEMA, options=options)
    assert json.loads(answer.message.content)["sky"] in ("clear", "cloudy")


def loading(client: Any, model: str) -> None:
    """A request without a question is one for the model."""
    assert client.chat(model).done_reason == client.generate(model).done_reason == "load"


def refusals(client: Any, model: str) -> None:
    """Errors have their status and their words."""
    refused: dict[int, Callable[[], object]] = {
        404: lambda: client.chat("nobody", ASKED),
        400: lambda: client.generate(model, "What is this?", images=[b"no image"]),
    }
    for status, ask in refused.items():
        try:
            ask()
        except ollama.ResponseError as error:
            assert error.status_code == status and error.error
        else:
            raise AssertionError(f"no error {status}")


STEPS = (models, chat, generate, structured, loading, refusals)

if __name__ == "__main__":
    for step in STEPS:
        step(ollama.Client(sys.argv[1]), sys.argv[2])
    print(len(STEPS))
