"""Bodies of every dialect with something wrong in them, made by hypothesis, against a real server.

Each is a rich valid body in which values were replaced, left out, added or said twice, at any
depth. Whatever it is: no 5xx, the error form of the dialect, and no word of Python's.
"""

import copy
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.server import Server
from tests.suites.conftest import MODEL

pytestmark = pytest.mark.slow

NUM_EXAMPLES = 150
TIMEOUT_S = 60.0
MAX_MESSAGE_LENGTH = 700
# Of msgspec, jinja2 and Python itself.
FOREIGN_WORDS = (
    "Traceback",
    "Error:",
    "object is not",
    "has no attribute",
    "NoneType",
    "Expected `",
)
SCHEMA: Any = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["a", "b"]},
        "n": {"type": "integer", "minimum": 1},
    },
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "of a city", "parameters": SCHEMA, "strict": False}
TOOL = {"type": "function", "function": FUNCTION}
QUESTION = {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "bob"}
CALLED = [
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "r",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"a"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "3"},
]
BODIES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {
            "messages": [{"role": "developer", "content": "x"}, QUESTION, *CALLED],
            "tools": [TOOL],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "max_tokens": 4,
            "temperature": 0.5,
            "stop": ["zz"],
            "logprobs": True,
            "top_logprobs": 2,
            "logit_bias": {"5": 1.5},
            "chat_template_kwargs": {"enable_thinking": False},
            "reasoning_effort": "low",
        },
        {
            "messages": [QUESTION],
            "max_completion_tokens": 6,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
            },
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        {
            "messages": [QUESTION],
            "max_tokens": 5,
            "tools": [TOOL],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [TOOL]},
            },
            "structured_outputs": {"regex": "[ab]{1,3}"},
            "allowed_token_ids": [5, 6, 7],
            "bad_words": ["x"],
            "timeout": 30,
            "thinking_token_budget": 4,
            "prompt_logprobs": 1,
            "min_tokens": 1,
        },
        {
            "messages": [QUESTION, {"role": "function", "name": "f", "content": "y"}],
            "max_tokens": 5,
            "functions": [FUNCTION],
            "function_call": {"name": "weather"},
        },
    ],
    "/v1/completions": [
        {
            "prompt": "hi",
            "max_tokens": 4,
            "echo": True,
            "logprobs": 2,
            "best_of": 2,
            "stop": "q",
            "structured_outputs": {"json": SCHEMA},
        },
        {"prompt": [[1, 2, 3], [4, 5]], "max_tokens": 3, "stream": True, "guided_choice": ["a"]},
    ],
    "/v1/messages": [
        {
            "max_tokens": 5,
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "t", "signature": "x"},
                        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"n": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t1",
                            "content": [
                                {"type": "text", "text": "3"},
                                {"type": "tool_reference", "tool_name": "late"},
                            ],
                        }
                    ],
                },
            ],
            "tools": [
                {"name": "weather", "input_schema": SCHEMA, "strict": True},
                {"name": "late", "input_schema": SCHEMA, "defer_loading": True},
            ],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "stop_sequences": ["zz"],
            "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
            "stream": True,
        },
        {
            "max_tokens": 5,
            "messages": [{"role": "user", "content": "hi"}],
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        },
    ],
    "/v1/messages/count_tokens": [
        {
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"name": "weather", "input_schema": SCHEMA}],
            "system": "x",
        }
    ],
    "/v1/responses": [
        {
            "instructions": "i",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "reasoning", "summary": [], "encrypted_content": "unisono:dA=="},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"n":1}'},
                {"type": "function_call_output", "call_id": "c", "output": "x"},
                {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "z"},
                {"type": "custom_tool_call_output", "call_id": "d", "output": "ok"},
            ],
            "tools": [
                {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False},
                {
                    "type": "custom",
                    "name": "patch",
                    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"},
                },
                {
                    "type": "namespace",
                    "name": "ns",
                    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
                },
            ],
            "tool_choice": "auto",
            "max_output_tokens": 5,
            "stream": True,
            "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
            "top_logprobs": 1,
            "reasoning": {"effort": "low", "summary": "auto"},
        },
        {
            "input": "hi",
            "max_output_tokens": 6,
            "text": {
                "format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}
            },
        },
    ],
    "/v1/responses/input_tokens": [{"input": "hi", "tools": [{"type": "custom", "name": "p"}]}],
    "/api/chat": [
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": "",
                    "thinking": "t",
                    "tool_calls": [{"function": {"name": "weather", "arguments": {"n": 1}}}],
                },
                {"role": "tool", "tool_name": "weather", "content": "3"},
            ],
            "tools": [TOOL],
            "think": True,
            "format": SCHEMA,
            "options": {"num_predict": 5, "stop": ["x"], "seed": 1},
        }
    ],
    "/api/generate": [
        {"prompt": "hi", "system": "s", "options": {"num_predict": 4}, "format": "json"},
    ],
}
HOSTILE: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 2**31, 2**64, -(2**63) - 1, 10**400, 1.5, 16.0, 1e308),
        *("", "a", "\x00", "\u202e", "x" * 5000, "<|im_end|>", "<tool_call>", "{{7*7}}"),
        *([], {}, [[]], [{}], [None], {"a": None}, {"": 1}, ["a", 1, None], [1] * 300),
        *({"type": "text"}, {"$ref": "#"}, {"$ref": "#/x"}, {"enum": []}, {"pattern": "("}),
        *({"pattern": "(?=a)"}, {"minimum": "x"}, {"properties": []}, {"anyOf": []}),
        *("required", "json_schema", {"type": "function"}, {"type": "json_object"}, [[[[[[]]]]]]),
    ]
)
NAMES = st.sampled_from(["zz", "strict", "type", "name", "id", "$ref", "content", "text", "not"])


@st.composite
def hostile_bodies(draw: st.DrawFn, path: str) -> dict[str, Any]:
    """Return a body for a route with one to three things wrong."""
    body = copy.deepcopy(draw(st.sampled_from(BODIES[path])))
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_of(body))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        match draw(st.sampled_from("rrrrdan")):
            case "r":
                container[key] = copy.deepcopy(draw(HOSTILE))
            case "d":
                del container[key]
            case "a" if isinstance(container, dict):
                container[draw(NAMES)] = copy.deepcopy(draw(HOSTILE))
            case "a":
                container.append(copy.deepcopy(draw(HOSTILE)))
            case _:
                container[key] = [container[key]]
    return {**body, "model": MODEL}


def places_of(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in JSON that holds a value: what holds it, and its key there."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else range(len(value))
    own = [(value, key) for key in keys]
    return own + [place for key in keys for place in places_of(value[key])]


def error_of(path: str, answer: Any) -> str:
    """Return the words of a refusal. Fails if it is not in the form of the dialect."""
    if path.startswith("/api/"):
        assert set(answer) == {"error"}
        return str(answer["error"])
    error = answer["error"]
    if path.startswith("/v1/messages"):
        assert answer["type"] == "error" and set(error) == {"type", "message"}
        assert answer["request_id"]
    else:
        assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


@pytest.mark.parametrize("path", BODIES)
def test_no_body_is_more_than_a_refusal(suite_server: Server, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(suite_server.url).netloc, timeout=TIMEOUT_S)
    json_type = {"content-type": "application/json"}

    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile_bodies(path))
    def try_it(body: dict[str, Any]) -> None:
        connection.request("POST", path, json.dumps(body), json_type)
        response = connection.getresponse()
        answer = response.read().decode()
        assert response.status in (200, 400, 404, 413), answer
        if response.status == 200:
            assert '"schema_broken"' in answer or "server_error" not in answer
            return
        words = error_of(path, json.loads(answer))
        assert words and len(words) <= MAX_MESSAGE_LENGTH
        assert not [word for word in FOREIGN_WORDS if word in words], words

    try_it()
    connection.close()
