"""Tokens that the embedding has no row for: they are characters, or refused, and harm nobody.

A model was published with 49,152 rows and a tokenizer with one token more. A chat that spelled it
killed the group, twice, and the second such chat ended the server.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from tests.backend.factories import tiny_config, write_tiny_gguf, write_tiny_llama
from tests.e2e.clients import RawStream, metrics, post, request
from tests.e2e.crowd import SLOW_SEED, SLOWLY
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

NUM_ROWS = tiny_config().vocab_size
# The first is a token like any other, as in models that think; the second is special.
ADDED = ("<think>", "<|image|>")
ADDED_IDS = (NUM_ROWS, NUM_ROWS + 1)
TEXT = "a <think> b <|image|> c"
# The second message makes it write such a token of its own accord.
TEMPLATE = """\
{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}{% if messages | length > 1 %}<think><|image|>{% endif %}"""
RESTART_SECONDS = 180.0


def write_directory(path: Path) -> Path:
    """A directory whose tokenizer has two tokens more than the model has rows."""
    model = write_tiny_llama(path, max_model_len=2048)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(ADDED[0], special=False)])
    tokenizer.add_special_tokens([ADDED[1]])
    assert tuple(map(tokenizer.token_to_id, ADDED)) == ADDED_IDS
    tokenizer.save(str(model / "tokenizer.json"))
    return model


def write_gguf(path: Path) -> Path:
    """The same as a GGUF file."""
    model = write_tiny_llama(path, max_model_len=2048)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    return write_tiny_gguf(path.with_suffix(".gguf"), model, added_tokens=ADDED)


@pytest.fixture(scope="module", params=[write_directory, write_gguf], ids=["directory", "GGUF"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    model = request.param(tmp_path_factory.mktemp("model") / "tiny")
    settings = ("--served-model-name", "tiny", "--kv-cache-bytes", str(1 << 24))
    # One request that kills the group must not end the server before the next test.
    with Server(model, *settings, *SLOWLY, "--restart-limit", "100") as server:
        yield server


def group_restarts(server: Server) -> float:
    return metrics(server.url).get('unisono_group_restarts_total{group="0"}', 0)


def is_ready(server: Server) -> bool:
    return any(group["ready"] for group in request(server.url, "GET", "/health")[2]["groups"])


@pytest.fixture
def unharmed(server: Server) -> Iterator[Server]:
    """The server, which a test must leave with the processes that it found there."""
    wait_until(lambda: is_ready(server), RESTART_SECONDS, "the group takes work")
    processes, restarts = server.processes, group_restarts(server)
    yield server
    assert request(server.url, "GET", "/health")[0] == 200
    assert ask(server, "/v1/completions", prompt="a", max_tokens=2)[0] == 200
    assert server.processes.items() >= processes.items()
    assert group_restarts(server) == restarts


def ask(server: Server, path: str, **fields: Any) -> tuple[int, Any]:
    return post(server.url, path, model="tiny", **fields)


def completed(server: Server, **fields: Any) -> dict[str, Any]:
    """The only choice of a completion that shows its token ids, all of which have rows."""
    fields = {"max_tokens": 4, "ignore_eos": True, "return_token_ids": True, **fields}
    status, answer = ask(server, "/v1/completions", **fields)
    assert status == 200, answer
    [choice] = answer["choices"]
    assert max(*choice["prompt_token_ids"], *choice["token_ids"]) < NUM_ROWS
    assert isinstance(choice, dict)
    return choice


def test_start_names_tokens_without_rows(server: Server) -> None:
    for token in ADDED:
        assert token in server.stderr


def test_completion_reads_them_as_characters(unharmed: Server) -> None:
    ids = completed(unharmed, prompt=TEXT)["prompt_token_ids"]
    status, answer = ask(unharmed, "/detokenize", tokens=ids)
    assert (status, answer["prompt"]) == (200, TEXT)


def test_echo_with_logprobs_returns_the_text(unharmed: Server) -> None:
    assert completed(unharmed, prompt=TEXT, echo=True, logprobs=2)["text"].startswith(TEXT)


@pytest.mark.parametrize("kept", [-1, 4])
def test_truncated_prompt_is_answered(unharmed: Server, kept: int) -> None:
    completed(unharmed, prompt=TEXT * 3, truncate_prompt_tokens=kept)


def test_streamed_completion_is_whole(unharmed: Server) -> None:
    body = {"model": "tiny", "prompt": TEXT, "max_tokens": 4, "ignore_eos": True}
    with RawStream(unharmed.url, body) as stream:
        assert list(stream.events())[-1] == b"data: [DONE]"


@pytest.mark.parametrize("num_messages", [1, 2], ids=["in a message", "in the template"])
def test_chat_is_answered(unharmed: Server, num_messages: int) -> None:
    messages = [{"role": "user", "content": TEXT}] * num_messages
    status, answer = ask(
        unharmed, "/v1/chat/completions", messages=messages, max_tokens=4, ignore_eos=True
    )
    assert status == 200, answer
    assert answer["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("form", ["prompt", "messages"])
def test_tokenize_returns_ids_with_rows(unharmed: Server, form: str) -> None:
    fields = {"prompt": TEXT, "messages": [{"role": "user", "content": TEXT}] * 2}
    status, answer = ask(unharmed, "/tokenize", **{form: fields[form]}, return_token_strs=True)
    assert status == 200
    assert max(answer["tokens"]) < NUM_ROWS


@pytest.mark.parametrize("token_id", ADDED_IDS)
@pytest.mark.parametrize(
    "place", ["prompt", "logit_bias", "stop_token_ids", "allowed_token_ids", "tokens"]
)
def test_id_itself_is_refused(unharmed: Server, place: str, token_id: int) -> None:
    value: Any = {str(token_id): 1} if place == "logit_bias" else [5, token_id]
    path = "/detokenize" if place == "tokens" else "/v1/completions"
    status, answer = ask(unharmed, path, **{"prompt": "a", "max_tokens": 2, place: value})
    assert (status, answer["error"]["param"]) == (400, place)
    assert answer["error"]["code"] == "invalid_token_id"


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": list(ADDED)},
        {"bad_words": list(ADDED)},
        {"structured_outputs": {"choice": list(ADDED)}},
        {"structured_outputs": {"regex": "<think>[a-z]{2}"}},
    ],
    ids=["stop", "bad words", "choice", "regex"],
)
def test_constraint_that_spells_them_is_obeyed(unharmed: Server, fields: dict[str, Any]) -> None:
    choice = completed(unharmed, prompt=TEXT, max_tokens=40, temperature=1, **fields)
    if "structured_outputs" in fields:
        assert choice["text"].startswith(ADDED)


def test_resumed_stream_spells_them_on(server: Server) -> None:
    """The rest of a stream is computed from the ids of its beginning, prompt included."""
    wait_until(lambda: is_ready(server), RESTART_SECONDS, "the group takes work")
    restarts = group_restarts(server)
    body = {
        "model": "tiny",
        "prompt": TEXT,
        "max_tokens": 1000,
        "seed": SLOW_SEED,
        "structured_outputs": {"regex": "(<think>[a-z]<.image.>){30}"},
    }
    with RawStream(server.url, body) as stream:
        chunks = stream.chunks()
        text = "".join(next(chunks)["choices"][0]["text"] for _ in range(8))
        os.kill(server.processes["unisono: rank 0.0"], signal.SIGKILL)
        text += "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert text.startswith(ADDED[0]) and text.count(ADDED[0]) == 30
    wait_until(lambda: group_restarts(server) == restarts + 1, RESTART_SECONDS, "it is counted")
