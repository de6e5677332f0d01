"""A coding agent's session through POST /v1/messages: what of each prompt the prefix cache holds.

Served is a tiny random model, for the text does not matter: the prompts are long, the template is
one that shows earlier thoughts, or one that takes them out of all turns before the last question.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.dialects.messages import conversation_of, tools_of
from gateway.schema.anthropic import MessagesRequest
from tests.data.agent_session import billing_line, turns
from tests.e2e.clients import post, request
from tests.e2e.server import Server
from tests.suites.model import write_suite_model

pytestmark = pytest.mark.e2e

MODEL = "tiny"
NUM_SYSTEM_WORDS = 4200
# As Qwen3's has it: thoughts stay in the turns since the user's last question.
TEMPLATE = """\
{%- set last = namespace(question=0) %}
{%- for message in messages %}{% if message.role == "user" %}\
{% set last.question = loop.index0 %}{% endif %}{% endfor %}
{%- if tools %}<|im_start|>tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.reasoning_content and (not drops_thoughts or loop.index0 > last.question) %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content }}{% for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("agent")
    # One layer and one head: 20,000 tokens of a prompt take seconds.
    small = {"num_layers": 1, "num_heads": 1, "num_kv_heads": 1}
    model = write_suite_model(directory / MODEL, max_model_len=32_768, **small)
    template = directory / "template.jinja"
    template.write_text(TEMPLATE)
    flags = ("--chat-template", template, "--kv-cache-bytes", str(128 << 20))
    with Server(model, "--served-model-name", MODEL, *flags) as server:
        yield server


@pytest.mark.parametrize("drops_thoughts", [False, True])
def test_prefix_cache_holds_what_an_agent_says_again(
    server: Server, *, drops_thoughts: bool
) -> None:
    """Of every turn at least 95 % of what could be read from it is."""
    earlier: list[list[int]] = []
    for turn, fields in enumerate(turns(NUM_SYSTEM_WORDS)):
        body = {
            "model": MODEL,
            "max_tokens": 4,
            "cache_salt": f"session {drops_thoughts}",
            "chat_template_kwargs": {"drops_thoughts": drops_thoughts},
            **fields,
        }
        prompt = prompt_ids(server, body, turn)
        reusable = max((num_common(prompt, before) for before in earlier), default=0)
        usage = message(server, body)["usage"]
        num_cached = usage["cache_read_input_tokens"]
        assert usage["input_tokens"] + num_cached == len(prompt)
        assert 0.95 * reusable <= num_cached <= reusable, turn
        if turn > 0:
            assert reusable > 20_000, "the system prompt and the tools, at least"
        earlier.append(prompt)


def message(server: Server, body: dict[str, Any]) -> Any:
    status, _, answer = request(server.url, "POST", "/v1/messages", json.dumps(body).encode())
    assert status == 200, answer
    return answer


def prompt_ids(server: Server, body: dict[str, Any], turn: int) -> list[int]:
    """Return the prompt of a turn without the line for the bill, as the server cuts it."""
    assert body["system"][0]["text"] == billing_line(turn)
    asked = msgspec.convert({**body, "system": body["system"][1:]}, MessagesRequest)
    conversation, tools = conversation_of(asked), tools_of(asked)
    fields = msgspec.to_builtins(conversation)
    fields["tools"] = msgspec.to_builtins(tools.tools) if tools else None
    given = {name: value for name, value in fields.items() if value is not None}
    status, answer = post(server.url, "/tokenize", **given)
    assert status == 200, answer
    return list(answer["tokens"])


def num_common(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def test_count_of_tokens_is_that_of_the_prompt(server: Server) -> None:
    fields = next(turns(100))
    count = {"model": MODEL, **fields}
    status, counted = post(server.url, "/v1/messages/count_tokens?beta=true", **count)
    usage = message(server, {**count, "max_tokens": 1})["usage"]
    assert status == 200
    assert counted["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]


def test_template_of_the_test_takes_thoughts_away(tmp_path: Path, server: Server) -> None:
    """Else the second session would be the first again."""
    *_, last = turns(10)
    lengths = []
    for drops_thoughts in (False, True):
        options = {"drops_thoughts": drops_thoughts}
        body = {"model": MODEL, "max_tokens": 1, "chat_template_kwargs": options, **last}
        lengths.append(len(prompt_ids(server, body, 11)))
    assert lengths[0] > lengths[1] + 500
