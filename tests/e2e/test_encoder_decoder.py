"""A tiny T5 over HTTP: its encoder reads prompts, its answers are those of transformers."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from tests.backend.models.tiny_t5 import CASES, TinyT5
from tests.e2e.clients import RawStream, free_blocks, is_idle, openai_client, post
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

# Of streams that a kill is to hit: a step takes so little that they could be over before.
SLOW_SEED, NUM_TOKENS = 3, 120
PROMPTS = ["translate a b c", "summarize: the quick brown fox", "x", "one two three four five " * 3]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyT5:
    model = TinyT5(CASES["flan"], tmp_path_factory.mktemp("model") / "tiny-t5")
    write_tokenizer(model.path)
    return model


@pytest.fixture(scope="module")
def server(tiny: TinyT5) -> Iterator[Server]:
    flags = ["--dtype", "float32", "--exact", "--tp", "2", "--kv-cache-bytes", "2000000"]
    flags += ["--restart-window-s", "1", "--test-faults", f"slow:seed={SLOW_SEED}"]
    with Server(tiny.path, *flags) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai_client(server.url) as client:
        yield client


def write_tokenizer(path: Path) -> None:
    """Write a vocabulary as T5's has it: Unigram, marks for blanks, </s> behind each text."""
    letters = "abcdefghijklmnopqrstuvwxyz:"
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{letter}" for letter in letters)]
    scores = [(piece, -number / 97 if number > 2 else 0.0) for number, piece in enumerate(pieces)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(scores, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    end = [("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=end)
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(path / "tokenizer.json"))
    fields = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>"}
    (path / "tokenizer_config.json").write_text(json.dumps(fields))


def ids_of(server: Server, prompt: str) -> list[int]:
    status, answer = post(server.url, "/tokenize", prompt=prompt)
    assert status == 200
    ids: list[int] = answer["tokens"]
    return ids


def test_start_says_what_reads_prompts_and_what_attends(server: Server) -> None:
    assert "an encoder reads the prompt" in server.stderr


def test_answers_are_those_of_transformers(
    server: Server, client: openai.OpenAI, tiny: TinyT5
) -> None:
    inputs = [ids_of(server, prompt) for prompt in PROMPTS]
    assert all(ids[-1] == 1 for ids in inputs)
    answer = client.completions.create(
        model="tiny-t5", prompt=PROMPTS, max_tokens=20, temperature=0,
        extra_body={"return_token_ids": True},
    )  # fmt: skip
    found = [(choice.model_extra or {})["token_ids"] for choice in answer.choices]
    assert found == [tiny.generate(ids, 20) for ids in inputs]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == sum(map(len, inputs))
    # An answer begins: its first word has no blank before it, as it would where it goes on.
    assert not any(choice.text.startswith(" ") for choice in answer.choices)


def test_streams_add_up_and_leave_nothing(server: Server, client: openai.OpenAI) -> None:
    def text_of(prompt: str) -> str:
        chunks = client.completions.create(
            model="tiny-t5", prompt=prompt, max_tokens=30, temperature=1, seed=5, stream=True
        )
        return "".join(chunk.choices[0].text for chunk in chunks)

    alone = [text_of(prompt) for prompt in PROMPTS]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(text_of, PROMPTS * 2))
    assert together == alone * 2
    wait_until(lambda: is_idle(server.url), 60, "the server is idle")
    free, total = free_blocks(server.url)
    assert free == total


def test_killed_rank_costs_a_pause(server: Server) -> None:
    """The encoder runs again, and the decoder goes on behind what it had written."""
    bodies: list[dict[str, Any]] = [
        {"model": "tiny-t5", "prompt": prompt, "max_tokens": NUM_TOKENS, "temperature": 0.8,
         "seed": SLOW_SEED, "ignore_eos": True, "return_token_ids": True, "stream": True}
        for prompt in PROMPTS
    ]  # fmt: skip
    have_begun = threading.Barrier(len(bodies) + 1)

    def ask(body: dict[str, Any], waits: bool) -> list[int]:
        ids: list[int] = []
        with RawStream(server.url, body) as stream:
            for number, chunk in enumerate(stream.chunks()):
                for choice in chunk["choices"]:
                    ids += choice["token_ids"]
                if waits and number == 20:
                    have_begun.wait(180)
        return ids

    with ThreadPoolExecutor(len(bodies)) as threads:
        undisturbed = list(threads.map(lambda body: ask(body, False), bodies))
        answers = [threads.submit(ask, body, True) for body in bodies]
        have_begun.wait(180)
        os.kill(server.processes["unisono: rank 0.1"], signal.SIGKILL)
        found = [answer.result(120) for answer in answers]
    assert [len(ids) for ids in found] == [NUM_TOKENS] * len(bodies)
    assert found == undisturbed


def test_what_such_a_model_cannot_do_is_refused_in_words(server: Server) -> None:
    message = {"role": "user", "content": "hello"}
    status, answer = post(server.url, "/v1/chat/completions", model="tiny-t5", messages=[message])
    assert (status, answer["error"]["code"]) == (400, "no_chat_template")
    status, answer = post(
        server.url, "/v1/completions", model="tiny-t5", prompt="a", max_tokens=2, prompt_logprobs=1
    )
    assert status == 400 and "an encoder reads them whole" in answer["error"]["message"]
    status, answer = post(
        server.url, "/v1/completions", model="tiny-t5", prompt=[5] * 2040, max_tokens=9
    )
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    status, answer = post(
        server.url, "/v1/completions", model="tiny-t5", prompt=[5] * 2040, max_tokens=8
    )
    assert status == 200 and answer["usage"]["prompt_tokens"] == 2040
