"""LiteLLM as a proxy in front of a server, and a small client of its three forms of a request.

A program in another venv, started and stopped here; its answers are put together as plain data, so
that the three forms, whole and streamed, are compared with one another.
"""

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
TIMEOUT_S = 60.0


@dataclass(slots=True)
class Reply:
    """What came of a request, in whichever form. calls: names and arguments."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)


class Proxy:
    """A proxy that runs."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = key

    def post(self, path: str, **fields: Any) -> str:
        """Return the body of an answer. Raises AssertionError for a refusal."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._key}"}
        asked = urllib.request.Request(self.url + path, json.dumps(fields).encode(), headers)
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error


@contextmanager
def proxy_of(program: Path, models: Mapping[str, Mapping[str, str]], home: Path) -> Iterator[Proxy]:
    """Run the proxy for some models, by name, each with LiteLLM's parameters."""
    key = f"sk-{secrets.token_hex(32)}"
    config = {
        "model_list": [
            {"model_name": name, "litellm_params": given} for name, given in models.items()
        ],
        "general_settings": {"master_key": key},
    }
    path = home / "litellm.json"
    path.write_text(json.dumps(config))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with (home / "litellm.log").open("w") as log:
        process = subprocess.Popen(
            [program, "--config", path, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | offline | {"HOME": str(home)},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, home / "litellm.log")
            yield Proxy(url, key)
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
        try:
            urllib.request.urlopen(f"{url}/health/readiness", timeout=TIMEOUT_S).close()
            return
        except OSError:
            time.sleep(0.2)


def events_of(body: str) -> list[Any]:
    """Return the data of a stream's events."""
    lines = (line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def chat_reply(body: str, *, is_streamed: bool) -> Reply:
    """Return what a chat's answer says."""
    reply = Reply()
    if not is_streamed:
        message = json.loads(body)["choices"][0]["message"]
        functions = [call["function"] for call in message.get("tool_calls") or []]
        calls = [(each["name"], json.loads(each["arguments"])) for each in functions]
        return Reply(message["content"] or "", calls)
    arguments: dict[int, str] = {}
    names: dict[int, str] = {}
    for event in events_of(body):
        for choice in event["choices"]:
            reply.text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls") or []:
                index, function = call["index"], call["function"]
                names[index] = names.get(index) or function.get("name") or ""
                arguments[index] = arguments.get(index, "") + (function.get("arguments") or "")
    reply.calls = [(names[index], json.loads(arguments[index])) for index in sorted(names)]
    return reply


def message_reply(body: str, *, is_streamed: bool) -> Reply:
    """Return what an answer in Anthropic's form says."""
    if not is_streamed:
        return _blocks_reply(json.loads(body)["content"])
    blocks: dict[int, dict[str, Any]] = {}
    for event in events_of(body):
        index = event.get("index")
        if event["type"] == "content_block_start":
            blocks[index] = event["content_block"] | {"json": ""}
        elif event["type"] == "content_block_delta":
            delta, block = event["delta"], blocks[index]
            block["text"] = block.get("text", "") + delta.get("text", "")
            block["json"] += delta.get("partial_json", "")
        elif event["type"] == "content_block_stop" and blocks[index]["json"]:
            blocks[index]["input"] = json.loads(blocks[index]["json"])
    return _blocks_reply([blocks[index] for index in sorted(blocks)])


def _blocks_reply(blocks: list[dict[str, Any]]) -> Reply:
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    calls = [(each["name"], each["input"]) for each in blocks if each["type"] == "tool_use"]
    return Reply("".join(texts), calls)


def response_reply(body: str, *, is_streamed: bool) -> Reply:
    """Return what an answer in the form of Responses says."""
    answer = json.loads(body) if not is_streamed else events_of(body)[-1]["response"]
    items = answer["output"]
    texts = [
        part["text"] for item in items if item["type"] == "message" for part in item["content"]
    ]
    calls = [item for item in items if item["type"] == "function_call"]
    return Reply("".join(texts), [(call["name"], json.loads(call["arguments"])) for call in calls])
