"""What asks to hold an answer back is refused; what only looks on is not."""

from typing import Any

import pytest

from gateway.errors import ApiError
from gateway.schema.hosted import check_hosted


@pytest.mark.parametrize("policy", [None, {}, {"input": None}, {"output": {"mode": "score"}}])
def test_moderation_that_only_scores_changes_nothing(policy: Any) -> None:
    check_hosted({"model": "omni", "policy": policy}, {"mode": "explicit", "prewarm": False})


def test_moderation_that_blocks_is_refused() -> None:
    with pytest.raises(ApiError, match=r"moderation\.policy\.output"):
        check_hosted({"model": "omni", "policy": {"output": {"mode": "block"}}}, None)


def test_prompt_that_is_only_to_be_cached_is_refused() -> None:
    with pytest.raises(ApiError, match="prewarm"):
        check_hosted(None, {"prewarm": True})
