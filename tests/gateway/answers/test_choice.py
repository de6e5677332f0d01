"""Where a choice's text ends, and what ends it, over HTTP."""

import pytest

from tests.gateway.completion_requests import (
    LENGTH,
    STOP,
    completed,
    scripted,
    text_of_choices,
)
from tests.gateway.fakes import (
    BOS,
    FakePool,
    app_of,
    complete,
    settle,
)


@pytest.mark.parametrize(("shows_end", "text"), [(False, "a"), (True, "a!")])
async def test_stop_token_is_text_only_when_asked_for(shows_end: bool, text: str) -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), stop_token_ids=[33], include_stop_str_in_output=shows_end)
    await settle()
    pool.send(0, b"a!", STOP, stop_token_id=33)
    answer = (await exchange.finished()).json
    assert (answer["choices"][0]["text"], answer["choices"][0]["stop_reason"]) == (text, 33)
    assert answer["usage"]["completion_tokens"] == 2


async def test_stop_string_is_the_stop_reason() -> None:
    answer = (await completed(scripted(b"abcd"), stop=["zz", "bc"])).json
    assert (answer["choices"][0]["text"], answer["choices"][0]["stop_reason"]) == ("a", "bc")


async def test_no_stop_string_counts_in_the_first_min_tokens() -> None:
    answer = (await completed(scripted(b"xxaxb"), stop="x", min_tokens=2)).json
    assert text_of_choices([answer]) == {0: ("xxa", "stop")}


async def test_special_tokens_are_text_when_they_are_not_skipped() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), skip_special_tokens=False)
    await settle()
    pool.send(0, [97, BOS, 98], LENGTH)
    assert text_of_choices([(await exchange.finished()).json]) == {0: ("a<s>b", "length")}
