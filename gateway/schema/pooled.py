"""The fields that requests for vectors and for scores share, whatever their endpoint."""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.errors import invalid
from gateway.schema.sampling import CacheSalt, NumPromptTokens, Priority, RequestId, Timeout

Dimensions = Annotated[int, Meta(ge=1)]


class PooledFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a text is turned into is not drawn: there is nothing to set but how it is taken.

    truncate_prompt_tokens: keep the first so many tokens of a text; -1 keeps what the model takes.
    Without it a longer text is refused. priority: lower runs earlier. cache_salt: texts share
    cached prefixes only under equal salts. timeout: seconds for the whole request.
    """

    model: str
    user: str | None = None
    truncate_prompt_tokens: NumPromptTokens | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    request_id: RequestId | None = None
    timeout: Timeout | None = None

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what one field alone cannot say."""
        if self.truncate_prompt_tokens == 0:
            message = "Invalid 'truncate_prompt_tokens': at least one token of a text must stay."
            raise invalid(message, "truncate_prompt_tokens")
