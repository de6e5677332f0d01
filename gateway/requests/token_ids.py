"""Token ids that clients send: in the vocabulary, or refused. Called for every field of them."""

from collections.abc import Sequence

from gateway.errors import invalid


def check_token_ids(token_ids: Sequence[int], vocab_size: int, param: str) -> None:
    """Refuse ids that are not in the vocabulary, naming the first."""
    if not token_ids or (min(token_ids) >= 0 and max(token_ids) < vocab_size):
        return
    position, bad_id = next(
        (i, token_id) for i, token_id in enumerate(token_ids) if not 0 <= token_id < vocab_size
    )
    raise invalid(
        f"Invalid '{param}': token id {bad_id} at position {position} is not in the vocabulary; "
        f"ids go from 0 to {vocab_size - 1}.",
        param,
        "invalid_token_id",
    )
