"""Makes what schemathesis generates reach the model: loaded by its command line, in its own venv.

Random bodies name random models and hold conversations that say nothing; a 404 or 400 tells little.
So most requests ask for the served model and for few tokens, and half of the chats are plain; the
others stay as they were generated.
"""

import os
import random
from typing import Any

import schemathesis  # type: ignore[import-not-found]

MODEL = os.environ["SUITE_MODEL"]
MAX_TOKENS = 8
# Takeoff's paths name a group by its number.
READER = "0"
OF_READERS = ("/config/", "/tokenize/", "/detokenize/", "/chat_template/")
# Replaced in half of the chats: what has to fit together, or is refused by design.
PLAIN_CHAT = {"messages": [{"role": "user", "content": "Hello"}], "modalities": ["text"]}
# What is left in half of the requests for responses, most of whose items belong together.
PLAIN_RESPONSE = {"model", "input", "max_output_tokens", "stream", "temperature", "top_p"}
DIFFICULT = (
    "chat_template chat_template_kwargs tools tool_choice functions function_call "
    "continue_final_message logit_bias response_format structured_outputs"
).split()

# Not hypothesis' chance: generation must not depend on it.
_dice = random.Random(0)


@schemathesis.hook  # type: ignore[untyped-decorator]
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Change nine requests in ten."""
    if _dice.random() < 0.1:
        return
    if "name" in (case.path_parameters or {}):
        is_reader = case.operation.path.startswith(OF_READERS)
        case.path_parameters["name"] = READER if is_reader else MODEL
    body = case.body
    if isinstance(body, dict) and case.operation.path.startswith("/generate"):
        for name in ("lora_id", "consumer_group", "json_schema", "min_new_tokens"):
            body.pop(name, None)
        body["max_new_tokens"] = MAX_TOKENS
    if case.operation.path.startswith("/chat_template/") and _dice.random() < 0.5:
        if isinstance(body, dict):
            body["inputs"] = [PLAIN_CHAT["messages"]]
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return
    body["model"] = MODEL
    if case.operation.path == "/v1/responses" and body.get("max_output_tokens") is None:
        body["max_output_tokens"] = MAX_TOKENS  # else it fills the context
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if type(body.get(name)) is int and body[name] > MAX_TOKENS:
            body[name] %= MAX_TOKENS + 1
    if case.operation.path.startswith("/v1/responses") and _dice.random() < 0.5:
        for name in body.keys() - PLAIN_RESPONSE:
            del body[name]
        body["input"] = "Hello"
    if case.operation.path in ("/api/chat", "/api/generate"):
        _bound_ollama(body)
    elif "messages" in body and case.operation.path.startswith("/v1/"):
        _bound_chat(body)


def _bound_ollama(body: dict[str, Any]) -> None:
    """Ask for few tokens where options are none, or make sense."""
    options = body.get("options")
    if options is None:
        options = body["options"] = {}
    if isinstance(options, dict) and type(options.get("num_predict", 0)) is int:
        options["num_predict"] = options.get("num_predict", 0) % MAX_TOKENS + 1


def _bound_chat(body: dict[str, Any]) -> None:
    """Ask for few tokens, half of the time in a plain conversation."""
    if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
        body["max_tokens"] = MAX_TOKENS
    if _dice.random() < 0.5:
        body.update(PLAIN_CHAT)
        for name in DIFFICULT:
            body.pop(name, None)
