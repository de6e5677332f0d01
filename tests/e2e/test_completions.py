"""What users of the official client get from the default model."""

import openai
import pytest

from gateway.default_model import default_model
from gateway.text.tokenizer import Tokenizer
from tests.e2e.clients import async_openai_client
from tests.e2e.oracle import decided_texts
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

MODEL = "SmolLM2-135M-Instruct"
FRANCE = "The capital of France is"
COUNTING = "1, 2, 3, 4, 5, 6,"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(default_model())


@pytest.fixture(scope="module")
def decided(tokenizer: Tokenizer) -> dict[str, str]:
    """By prompt, what a greedy text begins with on any processor."""
    return decided_texts(default_model(), tokenizer, [FRANCE, COUNTING])


def greedy_text(client: openai.OpenAI, prompt: str, max_tokens: int = 8) -> str:
    answer = client.completions.create(
        model=MODEL, prompt=prompt, max_tokens=max_tokens, temperature=0
    )
    return answer.choices[0].text


def test_greedy_completion_names_paris(client: openai.OpenAI, decided: dict[str, str]) -> None:
    text = greedy_text(client, FRANCE)
    assert text.startswith(decided[FRANCE])
    assert "Paris" in text


async def test_async_client_gets_the_same_and_streams(default_server: Server) -> None:
    async with async_openai_client(default_server.url) as client:
        whole = await client.completions.create(
            model=MODEL, prompt=FRANCE, max_tokens=8, temperature=0
        )
        stream = await client.completions.create(
            model=MODEL, prompt=FRANCE, max_tokens=8, temperature=0, stream=True
        )
        text = "".join([chunk.choices[0].text async for chunk in stream])
    assert text == whole.choices[0].text
    assert "Paris" in text


def test_prompt_of_ids_is_the_same_as_its_text(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=tokenizer.encode(FRANCE), max_tokens=8, temperature=0
    )
    assert answer.choices[0].text == greedy_text(client, FRANCE)


def test_each_prompt_of_a_list_gets_its_choice_in_order(
    client: openai.OpenAI, tokenizer: Tokenizer, decided: dict[str, str]
) -> None:
    prompts = [FRANCE, COUNTING]
    for form in (prompts, [tokenizer.encode(prompt) for prompt in prompts]):
        answer = client.completions.create(
            model=MODEL, prompt=form, max_tokens=4, temperature=0, echo=True
        )
        assert [choice.index for choice in answer.choices] == [0, 1]
        for prompt, choice in zip(prompts, answer.choices, strict=True):
            assert len(choice.text) > len(prompt)
            assert (prompt + decided[prompt]).startswith(choice.text)


def test_requests_without_a_seed_differ(tiny_client: openai.OpenAI) -> None:
    texts = {
        tiny_client.completions.create(
            model="tiny", prompt="Once upon a time", max_tokens=12, temperature=1
        )
        .choices[0]
        .text
        for _ in range(2)
    }
    assert len(texts) == 2


@pytest.mark.parametrize("stop", [" 9", ["\n\n\n", ", 9"]])
def test_stop_string_ends_the_text_before_itself(
    client: openai.OpenAI, decided: dict[str, str], stop: str | list[str]
) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=COUNTING, max_tokens=32, temperature=0, stop=stop
    )
    found = stop if isinstance(stop, str) else stop[1]
    expected, _, _ = decided[COUNTING].partition(found)
    assert expected and expected != decided[COUNTING]
    assert answer.choices[0].text == expected
    assert answer.choices[0].finish_reason == "stop"


def test_stream_with_stop_string_equals_the_whole_answer(
    client: openai.OpenAI, decided: dict[str, str]
) -> None:
    stream = client.completions.create(
        model=MODEL, prompt=COUNTING, max_tokens=32, temperature=0, stop=", 9", stream=True
    )
    chunks = list(stream)
    expected, _, _ = decided[COUNTING].partition(", 9")
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_max_tokens_ends_with_length_and_usage_counts(
    client: openai.OpenAI, tokenizer: Tokenizer
) -> None:
    answer = client.completions.create(
        model=MODEL,
        prompt=FRANCE,
        max_tokens=5,
        n=2,
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(tokenizer.encode(FRANCE))
    assert answer.usage.completion_tokens == 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 10


def test_max_tokens_0_with_echo_is_the_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=FRANCE, max_tokens=0, echo=True)
    assert answer.choices[0].text == FRANCE
    assert answer.choices[0].finish_reason == "length"


def test_streamed_text_equals_the_buffered_one(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model=MODEL, prompt=FRANCE, max_tokens=24, temperature=0, stream=True
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert text == greedy_text(client, FRANCE, max_tokens=24)
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] in ("length", "stop") and set(reasons[:-1]) == {None}


def test_usage_comes_alone_in_the_last_chunk_when_asked_for(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model=MODEL,
        prompt=FRANCE,
        max_tokens=6,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    *chunks, last = stream
    assert last.choices == []
    assert last.usage is not None and last.usage.completion_tokens == 6
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    [card] = client.models.list().data
    assert card.id == MODEL
    assert client.models.retrieve(MODEL) == card
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


def test_refusals_are_the_clients_exceptions_and_harm_nothing(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as hot:
        client.completions.create(model=MODEL, prompt=FRANCE, temperature=3)
    assert hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="word " * 9000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="gpt-5", prompt=FRANCE)
    assert unknown.value.code == "model_not_found"
    assert "Paris" in greedy_text(client, FRANCE)
