"""What programs do with takeoff-client: prompts whole and streamed, groups, tokens, readers.

Run in the client's own venv with a server's port, its management port and a model's name. Prints
how many of its steps passed; a step that fails ends it with that step's error.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from takeoff_client import TakeoffClient, TakeoffException  # type: ignore[import-not-found]

TEXT = "List 3 things to do in London"
SCHEMA = {
    "type": "object",
    "properties": {"sky": {"enum": ["clear", "cloudy"]}},
    "required": ["sky"],
    "additionalProperties": False,
}
# Table 3 of the article, but for its length.
SAMPLING: dict[str, Any] = {
    "sampling_temperature": 1,
    "sampling_topp": 0.9,
    "sampling_topk": 20,
    "no_repeat_ngram_size": 5,
    "repetition_penalty": 2,
    "min_new_tokens": 16,
    "max_new_tokens": 16,
}


def whole(client: Any, model: str) -> None:
    """One prompt has one answer, several have as many, in their order."""
    one = client.generate(TEXT, max_new_tokens=8)["text"]
    assert isinstance(one, str)
    several = client.generate([TEXT, "Hello", TEXT], max_new_tokens=8)["text"]
    assert several[0] == several[2] == one and len(several) == 3
    counted = client.generate(TEXT, return_metadata=True, **SAMPLING)
    assert counted["metadata"]["generated_tokens"] == 16
    assert asyncio.run(client.generate_async(TEXT, max_new_tokens=8))["text"] == one


def streamed(client: Any, model: str) -> None:
    """Events of a stream are the answer in pieces."""
    one = client.generate(TEXT, max_new_tokens=8)["text"]
    assert "".join(event.data for event in client.generate_stream(TEXT, max_new_tokens=8)) == one
    *pieces, last = client.generate_stream(
        [TEXT, TEXT], max_new_tokens=8, min_new_tokens=8, return_metadata=True
    )
    texts = ["", ""]
    for event in pieces:
        texts[int(event.id)] += event.data
    assert texts[0] == texts[1] and len(pieces) > 4
    assert json.loads(last.data)["generated_tokens"] == 16

    async def collect() -> str:
        events = client.generate_stream_async(TEXT, max_new_tokens=8)
        return "".join([event.data async for event in events])

    assert asyncio.run(collect()) == one


def structured(client: Any, model: str) -> None:
    """Patterns and schemas are followed."""
    text = client.generate("Call", regex_string=r"\d{3}-\d{4}", json_schema=SCHEMA)["text"]
    assert re.fullmatch(r"\d{3}-\d{4}", text)
    text = client.generate("Say", json_schema=SCHEMA, constrained_decoding_backend="lmfe")["text"]
    assert json.loads(text)["sky"] in ("clear", "cloudy")


def groups(client: Any, model: str) -> None:
    """Each group answers, and one that is not there is named."""
    texts = {
        client.generate(TEXT, max_new_tokens=8, consumer_group=group)["text"]
        for group in ("primary", "batch")
    }
    assert len(texts) == 1
    listed = client.get_readers()
    assert {name: len(readers) for name, readers in listed.items()} == {"primary": 1, "batch": 1}


def tokens(client: Any, model: str) -> None:
    """Text becomes tokens and text again; conversations become prompts."""
    [reader] = client.list_all_readers()["primary"]
    reader_id = reader["reader_id"]
    cut = client.tokenize("hello, world", reader_id, use_chat_template=False)
    assert client.tokens_count("hello, world", reader_id) == len(cut) > 1
    assert client.detokenize(cut, reader_id).strip() == "hello, world"
    message = [{"role": "user", "content": "Hi"}]
    [prompt] = client.chat_template(message, reader_id, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n") and "Hi" in prompt
    whole = client.generate("Hi", use_chat_template=True, max_new_tokens=8)["text"]
    assert client.generate(prompt, max_new_tokens=8)["text"] == whole


def readers(client: Any, model: str) -> None:
    """A reader comes, answers under its name, and goes."""
    reader = {"model_name": model, "device": "cpu", "consumer_group": "llama", "max_batch_size": 4}
    made = client.create_reader(reader)
    reader_id = made["reader_id"]
    assert client.generate(TEXT, max_new_tokens=2, consumer_group="llama")["text"]
    assert client.get_reader_config(reader_id)["max_batch_size"] == 4
    assert reader_id in client.get_status()["live_readers"]
    client.delete_reader(reader_id)
    assert reader_id not in client.get_status()["live_readers"]
    refused(400, lambda: client.generate(TEXT, consumer_group="llama"))


def refusals(client: Any, model: str) -> None:
    """Errors have their status and their words."""
    refused(400, lambda: client.generate(TEXT, consumer_group="nobody"))
    refused(422, lambda: client.generate({"no": "text"}))
    refused(400, lambda: list(client.generate_stream(TEXT, max_new_tokens=10**6)))
    refused(400, lambda: client.embed(TEXT))
    refused(400, lambda: client.classify(TEXT))
    refused(404, lambda: client.tokenize(TEXT, "nobody"))
    refused(404, lambda: client.delete_reader("77"))
    other = {"model_name": "TheBloke/Llama-2-7b-Chat-AWQ", "device": "cpu", "consumer_group": "x"}
    refused(400, lambda: client.create_reader(other))


def refused(status: int, ask: Callable[[], object]) -> None:
    try:
        ask()
    except TakeoffException as error:
        assert error.status_code == status, error
        assert '"error":' in str(error)
    else:
        raise AssertionError(f"no error {status}")


STEPS = (whole, streamed, structured, groups, tokens, readers, refusals)

if __name__ == "__main__":
    port, management_port = map(int, sys.argv[1:3])
    for step in STEPS:
        step(TakeoffClient("http://127.0.0.1", port, management_port, oai_port=port), sys.argv[3])
    print(len(STEPS))
