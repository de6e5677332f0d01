"""How many tokens one sequence may have, prompt and answer together.

Owns the checks of lengths and truncate_prompt_tokens. Must not know how a text is cut into tokens.
Used by the endpoints that generate and by prompt.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.errors import invalid
from gateway.requests.text_request import TextRequest
from gateway.schema.sampling import given

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool
    from gateway.text.tokenizer import Tokenizer


class ContextLength:
    """The limit of the model, or of a group's KV cache where that holds less of one sequence.

    num_tokens is what is promised to clients, enforced and shown.
    """

    def __init__(self, pool: "ReplicaPool") -> None:
        """pool: knows both sizes, the second once a group is ready."""
        self._pool = pool

    @property
    def num_tokens(self) -> int:
        """Prompt and answer together."""
        max_model_len = self._pool.max_model_len
        return min(max_model_len, self._pool.kv_sequence_tokens or max_model_len)

    def check(
        self,
        num_prompt_tokens: int,
        max_tokens: int,
        request: TextRequest,
        *,
        is_exact: bool = True,
    ) -> None:
        """Refuse what can never run, so that it cannot wait in a queue for ever.

        is_exact: false if the prompt may well have more tokens.
        """
        num_tokens = num_prompt_tokens + max_tokens
        if num_tokens <= self.num_tokens:
            return
        max_model_len = self._pool.max_model_len
        limit = f"This model's maximum context length is {self.num_tokens} tokens"
        if self.num_tokens < max_model_len:
            limit += (
                f" here (the KV cache holds {self.num_tokens} of one request, the model takes "
                f"{max_model_len})"
            )
        least = "" if is_exact else "at least "
        is_prompt_alone = num_prompt_tokens > self.num_tokens or request.max_tokens is None
        raise invalid(
            f"{limit}, however you requested {least}{num_tokens} tokens "
            f"({least}{num_prompt_tokens} in your prompt; {max_tokens} for the completion). "
            "Please shorten the prompt or the completion.",
            request.prompt_field if is_prompt_alone else request.max_tokens_field,
            "context_length_exceeded",
        )

    def check_texts(
        self,
        texts: Sequence[str],
        tokenizer: "Tokenizer",
        max_tokens: int,
        request: TextRequest,
    ) -> None:
        """Refuse a prompt, in one or more texts, that is too long however it is cut into tokens.

        Called before it is cut: 10 MiB take seconds.
        """
        if request.fields.truncate_prompt_tokens is None:
            num_tokens = sum(map(tokenizer.min_num_tokens, texts))
            self.check(num_tokens, max_tokens, request, is_exact=False)

    def truncate(self, token_ids: list[int], max_tokens: int, request: TextRequest) -> list[int]:
        """Return the last tokens of a prompt, as many as truncate_prompt_tokens leaves."""
        keep = given(request.fields.truncate_prompt_tokens, len(token_ids))
        if keep < 0:
            keep = max(1, self.num_tokens - max_tokens)
        return token_ids[-keep:] if keep < len(token_ids) else token_ids
