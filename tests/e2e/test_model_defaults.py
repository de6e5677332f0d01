"""What a model's files and the operator say of requests that do not say, over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import openai_client, post
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{{ mood }}"
MESSAGES: list[Any] = [{"role": "user", "content": "abc"}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "f"}}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny", max_model_len=4096)
    said = {"do_sample": True, "temperature": 0.0, "max_new_tokens": 7, "eos_token_id": []}
    (model / "generation_config.json").write_text(json.dumps(said))
    (model / "chat_template.jinja").write_text(TEMPLATE)
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools | length }}")
    flags = ("--kv-cache-bytes", "100000", "--override-generation-config", '{"top_k": 40}')
    moods = ("--default-chat-template-kwargs", '{"mood": "!"}')
    with Server(model, *flags, *moods) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai_client(server.url) as client:
        yield client


def prompt_of(server: Server, **fields: Any) -> str:
    status, tokens = post(server.url, "/tokenize", messages=MESSAGES, **fields)
    assert status == 200, tokens
    status, text = post(server.url, "/detokenize", tokens=tokens["tokens"])
    assert status == 200
    return str(text["prompt"])


def test_context_is_what_the_kv_cache_holds(server: Server, client: openai.OpenAI) -> None:
    (card,) = client.models.list().data
    assert card.model_extra is not None
    length = card.model_extra["max_model_len"]
    assert 32 <= length < 4096
    assert f"context    {length:,} tokens a request, all that the KV cache holds of the 4,096" in (
        server.stderr
    )
    prompt = [97] * (length - 8)
    fits = client.completions.create(model=card.id, prompt=prompt, max_tokens=8)
    assert fits.usage is not None and fits.usage.total_tokens == length
    with pytest.raises(openai.BadRequestError, match=f"length is {length} .* takes 4096"):
        client.completions.create(model=card.id, prompt=prompt, max_tokens=9)


def test_sampling_is_the_files_and_the_operators(client: openai.OpenAI) -> None:
    (card,) = client.models.list().data
    assert card.model_extra is not None
    shown = {"temperature": 0.0, "top_k": 40, "max_new_tokens": 7}
    assert card.model_extra["default_sampling_params"] == shown

    def ask(**fields: Any) -> list[str | None]:
        answers = [
            client.chat.completions.create(model=card.id, messages=MESSAGES, **fields)
            for _ in range(4)
        ]
        assert all(a.usage and a.usage.completion_tokens == 7 for a in answers)
        return [answer.choices[0].message.content for answer in answers]

    assert len(set(ask())) == 1
    assert len(set(ask(temperature=2, extra_body={"top_k": 0}))) > 1


def test_template_is_chosen_by_tools_or_name(server: Server) -> None:
    assert prompt_of(server) == "abc!"
    assert prompt_of(server, chat_template_kwargs={"mood": "?"}) == "abc?"
    assert prompt_of(server, tools=TOOLS) == "1"
    assert prompt_of(server, tools=TOOLS, chat_template="tool_use") == "1"
    refused = {"model": "tiny", "messages": MESSAGES, "chat_template": "rag"}
    status, answer = post(server.url, "/v1/chat/completions", **refused)
    assert status == 400
    assert answer["error"]["message"].endswith("it has: default, tool_use.")


def test_template_of_the_operator_is_the_only_one(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny")
    (model / "chat_template.jinja").write_text(TEMPLATE)
    file = tmp_path / "mine.jinja"
    file.write_text("mine {{ messages[0].content }}")
    with Server(model, "--chat-template", file) as own:
        assert prompt_of(own) == "mine abc"
