"""/api/chat, /api/generate and what else Ollama's clients ask."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import pytest

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.model_facts import ModelFacts
from tests.gateway.fake_template import FakeTemplate, fake_templates
from tests.gateway.fakes import Exchange, FakePool, make_service

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
EOS = b"."  # the last token of a sequence that stops is no text
CALL = b'<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
HI = [{"role": "user", "content": "hi"}]


def playing(text: bytes, finish: FinishReason = STOP) -> FakePool:
    return FakePool(script=(text + EOS if finish is STOP else text, finish))


async def ask(
    path: str, pool: FakePool | None = None, chat: FakeTemplate | None = None, **fields: Any
) -> Exchange:
    """Return the finished exchange of one request."""
    templates = fake_templates(default=chat or FakeTemplate())
    app = create_app(replace(make_service(pool or FakePool()), chat_templates=templates))
    body = msgspec.json.encode({"model": "tiny", **fields})
    return await Exchange(app, "POST", f"/api/{path}", body).finished()


async def get(path: str) -> Exchange:
    return await Exchange(create_app(make_service(FakePool())), "GET", path).finished()


async def whole(path: str, pool: FakePool | None = None, **fields: Any) -> dict[str, Any]:
    exchange = await ask(path, pool, stream=False, **fields)
    assert exchange.status == 200, exchange.body
    answer: dict[str, Any] = exchange.json
    return answer


async def lines(path: str, pool: FakePool, **fields: Any) -> list[dict[str, Any]]:
    exchange = await ask(path, pool, **fields)
    assert exchange.headers["content-type"].startswith("application/x-ndjson")
    assert exchange.body.endswith(b"\n")
    return [msgspec.json.decode(line) for line in exchange.body.splitlines()]


async def refused(path: str, **fields: Any) -> str:
    pool = FakePool()
    exchange = await ask(path, pool, **fields)
    assert exchange.status == 400, exchange.body
    assert not pool.submitted and list(exchange.json) == ["error"]
    return str(exchange.json["error"])


async def test_chat_in_one_piece_has_message_counts_and_times() -> None:
    answer = await whole("chat", playing(b"hello"), messages=HI)
    assert answer["message"] == {"role": "assistant", "content": "hello"}
    assert (answer["done"], answer["done_reason"]) == (True, "stop")
    assert (answer["prompt_eval_count"], answer["eval_count"]) == (2, 6)
    assert answer["total_duration"] > 0 and answer["load_duration"] == 0
    durations = answer["prompt_eval_duration"], answer["eval_duration"]
    assert all(0 <= duration <= answer["total_duration"] for duration in durations)
    assert datetime.fromisoformat(answer["created_at"]).tzinfo is not None


async def test_chat_is_streamed_as_lines_by_default() -> None:
    [*pieces, last] = await lines("chat", playing(b"hel", LENGTH), messages=HI)
    assert [piece["message"]["content"] for piece in pieces] == ["h", "e", "l"]
    assert not any(piece["done"] for piece in pieces)
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "length", 3)
    assert last["message"]["content"] == ""


async def test_generated_text_is_the_response() -> None:
    answer = await whole("generate", playing(b"hey"), prompt="hi")
    assert (answer["response"], answer["done_reason"]) == ("hey", "stop")
    assert "context" not in answer
    [*pieces, last] = await lines("generate", playing(b"hey"), prompt="hi", raw=True)
    assert "".join(piece["response"] for piece in pieces) == "hey"
    assert last["done"]


async def test_calls_come_whole_and_as_objects() -> None:
    asked: dict[str, Any] = {"messages": HI, "tools": [TOOL]}
    answer = await whole("chat", playing(CALL), **asked)
    streamed = await lines("chat", playing(CALL), **asked)
    [in_stream] = [line for line in streamed if "tool_calls" in line["message"]]
    for message in (answer["message"], in_stream["message"]):
        [call] = message["tool_calls"]
        assert call["function"] == {"name": "weather", "arguments": {"city": "Bern"}, "index": 0}


async def test_results_of_tools_find_their_calls_by_name() -> None:
    calls = [{"function": {"name": name, "arguments": {"x": 1}}} for name in ("one", "two")]
    messages = [
        *HI,
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls},
        {"role": "tool", "tool_name": "two", "content": "2"},
        {"role": "tool", "content": "1"},
    ]
    template = FakeTemplate()
    exchange = await ask("chat", playing(b"ok"), template, messages=messages)
    assert exchange.status == 200, exchange.body
    [_, said, second, first] = template.seen[-1].messages
    ids = [call["id"] for call in said["tool_calls"]]
    assert [first["tool_call_id"], second["tool_call_id"]] == ids
    assert said["reasoning_content"] == "hm"


async def test_options_reach_the_sampler() -> None:
    pool = playing(b"ok")
    options = {"temperature": 0.5, "top_k": 3, "num_predict": 7, "num_ctx": 64, "seed": -1}
    await whole("chat", pool, messages=HI, options={**options, "repeat_penalty": 1.5})
    [submitted] = pool.submitted.values()
    params = submitted.params
    assert (params.temperature, params.top_k, params.max_tokens) == (0.5, 3, 7)
    assert params.repetition_penalty == 1.5


@pytest.mark.parametrize("path", ["chat", "generate"])
async def test_nothing_to_answer_means_that_the_model_be_loaded(path: str) -> None:
    pool = FakePool()
    answer = await whole(path, pool)
    assert (answer["done"], answer["done_reason"]) == (True, "load")
    [line] = await lines(path, pool)
    assert line["done"] and not pool.submitted


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("chat", {"messages": [{**HI[0], "images": ["aGk="]}]}, "messages[0].images"),
        ("generate", {"prompt": "hi", "template": "{{ .Prompt }}"}, "template"),
        ("generate", {"prompt": "hi", "context": [1]}, "context"),
        ("generate", {"prompt": "hi", "images": ["aGk="]}, "images"),
        ("generate", {"prompt": "hi", "raw": True, "system": "Be brief."}, "system"),
        ("chat", {"messages": HI, "format": "yaml"}, "format"),
    ],
)
async def test_what_is_not_to_be_had_is_named(path: str, fields: Any, words: str) -> None:
    assert f"'{words}'" in await refused(path, **fields)


async def test_latest_may_stand_behind_a_name() -> None:
    assert (await whole("chat", playing(b"ok"), model="tiny:latest", messages=HI))["done"]
    exchange = await ask("chat", model="tiny:other", messages=HI)
    assert exchange.status == 404 and list(exchange.json) == ["error"]


async def test_models_are_listed_and_shown() -> None:
    [listed, *_] = (await get("/api/tags")).json["models"]
    assert listed["name"] == listed["model"] == "tiny"
    assert len(listed["digest"]) == 64
    shown = (await ask("show")).json
    assert "completion" in shown["capabilities"]
    architecture = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{architecture}.context_length"] > 0


async def test_models_tell_what_their_files_say() -> None:
    facts = ModelFacts("llama", "gguf", 1234, 134_515_008, "Q4_1", "{{ x }}", {"block_count": 30})
    app = create_app(replace(make_service(FakePool()), facts=facts))
    [listed, *_] = (await Exchange(app, "GET", "/api/tags").finished()).json["models"]
    [running, *_] = (await Exchange(app, "GET", "/api/ps").finished()).json["models"]
    body = msgspec.json.encode({"name": "tiny"})  # older clients' word for the model
    shown = (await Exchange(app, "POST", "/api/show", body).finished()).json
    assert listed["size"] == running["size"] == 1234
    details = listed["details"]
    assert details == running["details"] == shown["details"]
    assert (details["format"], details["families"]) == ("gguf", ["llama"])
    assert (details["parameter_size"], details["quantization_level"]) == ("134.52M", "Q4_1")
    assert shown["template"] == "{{ x }}"
    assert shown["model_info"]["llama.block_count"] == 30
    assert shown["model_info"]["general.parameter_count"] == 134_515_008


async def test_stream_that_breaks_off_ends_in_an_error() -> None:
    class Failing(FakePool):
        def play(self, seq_id: int, *args: Any) -> None:
            self.send(seq_id, b"a")
            self.send(seq_id, b"", FinishReason.ERROR, error="rank 0 died")

    *_, last = await lines("chat", Failing(script=(b"", STOP)), messages=HI)
    assert last == {"error": "rank 0 died"}


async def test_fault_of_a_schema_is_one_of_format() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}}
    exchange = await ask("chat", messages=HI, format=schema)
    assert exchange.status == 400 and "'format'" in exchange.json["error"]


async def test_version_is_one_of_ollamas() -> None:
    """Ours, 0.1.0, was too old for clients: Codex wants 0.13.4 at least."""
    version = (await get("/api/version")).json["version"]
    assert [int(part) for part in version.split(".")] >= [0, 13, 4]


@pytest.mark.parametrize("path", ["chat", "generate"])
async def test_log_probabilities_are_of_what_is_said(path: str) -> None:
    asked: dict[str, Any] = {"messages": HI} if path == "chat" else {"prompt": "hi"}
    plain = await whole(path, playing(b"hey"), **asked)
    assert "logprobs" not in plain
    answer = await whole(path, playing(b"hey"), logprobs=True, top_logprobs=2, **asked)
    scores = answer["logprobs"]
    assert [entry["token"] for entry in scores] == ["h", "e", "y"]
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) <= 2 for entry in scores)
    streamed = await lines(path, playing(b"hey"), logprobs=True, top_logprobs=2, **asked)
    assert [entry for line in streamed for entry in line.get("logprobs", [])] == scores
    assert "'logprobs'" in await refused(path, top_logprobs=1, **asked)


async def test_loaded_models_stay() -> None:
    model, *_ = (await get("/api/ps")).json["models"]
    assert model["name"] == "tiny" and model["context_length"] > 0
    assert datetime.fromisoformat(model["expires_at"]).year > 2100
