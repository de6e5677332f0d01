"""Prompts that nothing can be made of, refused over HTTP."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.app import create_app
from tests.gateway.completion_requests import (
    refused,
    scripted,
)
from tests.gateway.fakes import (
    BOS,
    ByteDetokenizer,
    ByteTokenizer,
    FakePool,
    complete,
    make_service,
)


@pytest.mark.parametrize("prompt", [[], [[]], [[1], []]])
async def test_empty_list_of_prompts_or_ids_is_refused(prompt: Any) -> None:
    exchange = await refused(prompt=prompt)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "empty_array")


async def test_empty_prompt_is_refused_when_nothing_can_begin_it() -> None:
    exchange = await refused(tokenizer=ByteTokenizer(bos_token_id=None), prompt="")
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "empty_string")


async def test_prompt_goes_without_the_model_s_own_prefix_when_asked() -> None:
    for add_special_tokens, prompt_ids in [(True, [BOS, 104, 105]), (False, [104, 105])]:
        pool = scripted(b"x")

        async def run(pool: FakePool = pool, add: bool = add_special_tokens) -> None:
            app = create_app(make_service(pool, ByteTokenizer(prefix_ids=[BOS])))
            await complete(app, add_special_tokens=add).finished()

        await run()
        assert pool.submitted[0].prompt_ids == prompt_ids


@pytest.mark.parametrize("has_encoder", [False, True])
async def test_answer_goes_on_from_the_prompt_unless_an_encoder_has_it(
    has_encoder: bool,
) -> None:
    """SentencePiece's first word has a blank before it where it goes on, none where it begins."""
    before: list[list[int]] = []

    class Tokenizer(ByteTokenizer):
        def detokenizer(self, prompt_ids: Sequence[int] = (), **options: Any) -> ByteDetokenizer:
            before.append(list(prompt_ids))
            return super().detokenizer(prompt_ids, **options)

    pool = scripted(b"x")
    app = create_app(make_service(pool, Tokenizer(), has_encoder=has_encoder))
    await complete(app).finished()
    assert before == [[] if has_encoder else pool.submitted[0].prompt_ids]
