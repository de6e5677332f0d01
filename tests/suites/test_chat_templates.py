"""Published chat templates, as llama.cpp collects them: a request's prompt is transformers'.

The templates are the work of others and stay in the package's sources. What is compared has gone
the whole way of a request, from JSON to token ids.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import PreTrainedTokenizerFast

from backend.config.gguf_header import read_metadata
from gateway.errors import ApiError
from gateway.hub import default_model
from gateway.requests.conversation import encode_conversation
from gateway.sandbox.chat_templates import ChatTemplates
from gateway.schema.chat import ChatRequest
from gateway.text.vocab.gguf import vocabulary_from_metadata
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON
from tests.gateway.text.default_tokenizer import smollm
from tests.suites.environment import sources

pytestmark = pytest.mark.slow

# Families whose templates must be among those compared, however the collection changes.
FAMILIES = (
    "Qwen2.5", "Qwen3-0.6B", "Qwen3.5", "QwQ", "gemma-2", "gemma-4", "Phi-3.5", "Mistral-Nemo",
    "Ministral-3", "granite-3.3", "granite-4.0", "SmolLM3", "Llama-3.1", "Llama-3.2", "Llama-3.3",
    "gpt-oss", "DeepSeek-V3.1", "GLM-4.6",
)  # fmt: skip
ARGUMENTS = {"city": 'Zürich "ZH"', "days": [1, 2]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Looks out of the window.", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    calls = [{"id": "call00001", "type": "function", "function": function}]
    # "" and not null: transformers 5.23 drops a null, and Qwen3's own template then fails.
    return {"role": "assistant", "content": "", "tool_calls": calls}


def said(**contents: str) -> list[dict[str, Any]]:
    """Return messages; the first letter of a keyword is that of its role."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[key[0]], "content": text} for key, text in contents.items()]


RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "rain"}
THOUGHT = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
CONVERSATIONS = (
    said(u="Hi <b> é"),
    said(s="Be brief.", u=" 1 + 1?\n"),
    said(s="Be brief.", u1="a", a="b", u2="c"),
    [*said(u="a"), THOUGHT, *said(u="c")],
)
WITH_CALLS = (
    [*said(u="Weather?"), call(ARGUMENTS), RESULT],
    [*said(u="Weather?"), call(ARGUMENTS), RESULT, *said(a="Rain.", u="ok")],
)


@cache
def oracle() -> PreTrainedTokenizerFast:
    backend = vocabulary_from_metadata(read_metadata(default_model())).backend
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )


def variants() -> Iterator[dict[str, Any]]:
    """Return conversations as transformers takes them, with what else a request says."""
    for options in ({}, {"enable_thinking": False}):
        for messages in CONVERSATIONS:
            for tools in (None, TOOLS):
                yield {"messages": messages, "tools": tools, "options": options}
        for messages in WITH_CALLS:
            yield {"messages": messages, "tools": TOOLS, "options": options}


def with_text_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose calls have their arguments as JSON, as in OpenAI's form."""
    copies: list[dict[str, Any]] = json.loads(json.dumps(messages))
    for message in copies:
        for called in message.get("tool_calls", []):
            function = called["function"]
            function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return copies


def on_the_wire(variant: dict[str, Any]) -> ChatRequest:
    """Return the request of a client that means the same."""
    body = {
        "model": "m",
        "messages": with_text_arguments(variant["messages"]),
        "tools": variant["tools"],
        "chat_template_kwargs": variant["options"],
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=ChatRequest)


def expected_ids(variant: dict[str, Any], source: str) -> list[int] | None:
    """Return transformers' ids, None where the template refuses the conversation.

    Some templates add a call's arguments to text: what they take is not an object but its JSON.
    """
    for messages in (variant["messages"], with_text_arguments(variant["messages"])):
        if (ids := _ids_of(messages, variant, source)) is not None:
            return ids
    return None


def _ids_of(
    messages: list[dict[str, Any]], variant: dict[str, Any], source: str
) -> list[int] | None:
    try:
        ids: list[int] = oracle().apply_chat_template(
            messages,
            tools=variant["tools"],
            chat_template=source,
            add_generation_prompt=True,
            return_dict=False,
            **variant["options"],
        )
    except Exception:  # a template is a program and fails in any way at all
        return None
    return ids


async def own_ids(variant: dict[str, Any], templates: ChatTemplates) -> list[int] | None:
    request = on_the_wire(variant)
    try:
        return await encode_conversation(request, request.usable_tools, templates)
    except ApiError as error:
        assert error.status == 400
        return None


async def test_prompts_are_those_of_transformers() -> None:
    folder = sources("llama-cpp-python", LLAMA_CPP_PYTHON) / "vendor/llama.cpp/models/templates"
    files = sorted(folder.glob("*.jinja"))
    assert not [name for name in FAMILIES if not any(name in file.name for file in files)]
    num_compared = 0
    different = []
    for file in files:
        num, names = await compare(file)
        num_compared += num
        different += names
    assert not different
    assert num_compared > 15 * len(files)  # of 20; some know no tools, or no system


async def compare(file: Path) -> tuple[int, list[str]]:
    """Return how many conversations a template rendered, and which of them differ."""
    source = file.read_text()
    templates = ChatTemplates.of(smollm(), {"default": source}, {})
    assert templates is not None
    num_compared = 0
    different = []
    try:
        for number, variant in enumerate(variants()):
            if variant["tools"] and not templates.choose(None, has_tools=True).supports_tools:
                continue  # transformers leaves the tools out without a word
            expected = expected_ids(variant, source)
            if await own_ids(variant, templates) != expected:
                different.append(f"{file.name}: {number}")
            num_compared += expected is not None
    finally:
        templates.close()
    return num_compared, different
