"""Requests for more than one may have, over HTTP."""

from typing import Any

import pytest

from tests.gateway.completion_requests import refused


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 65, "prompt": ["a", "b"]}, "n"),
        ({"prompt": [[1]] * 129}, "prompt"),
        ({"n": 129}, "n"),
    ],
)
async def test_more_choices_than_the_cap_are_refused(fields: dict[str, Any], param: str) -> None:
    exchange = await refused(**fields)
    assert exchange.status == 400
    assert exchange.error["param"] == param
    assert "128" in exchange.error["message"]
