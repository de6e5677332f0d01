"""Ids outside the vocabulary, refused over HTTP."""

from typing import Any

import pytest

from tests.gateway.completion_requests import refused
from tests.gateway.fakes import VOCAB_SIZE


@pytest.mark.parametrize(
    ("prompt", "bad_id", "position"),
    [
        ([1, VOCAB_SIZE, 2], VOCAB_SIZE, 1),
        ([-1], -1, 0),
        ([[1], [2, 3, 2**31]], 2**31, 2),
        ([0, 2**63], 2**63, 1),
        ([2**70], 2**70, 0),
    ],
)
async def test_first_id_outside_the_vocabulary_is_named(
    prompt: Any, bad_id: int, position: int
) -> None:
    exchange = await refused(prompt=prompt)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "invalid_token_id")
    assert f"token id {bad_id} at position {position} " in exchange.error["message"]
