"""Ollama's requests for vectors, and what it answers. Durations are nanoseconds.

Shapes and ranges; gateway/endpoints/ollama_embed.py says what they mean.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.schema.embeddings import EmbeddingRequest
from gateway.schema.pooled import Dimensions
from gateway.schema.sampling import CacheSalt, Priority, RequestId, Timeout


class _EmbedFields(msgspec.Struct, frozen=True, kw_only=True):
    """options, keep_alive: accepted, and change nothing."""

    model: str
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    request_id: RequestId | None = None
    timeout: Timeout | None = None

    def check(self, *, is_strict: bool) -> None:
        """Nothing contradicts anything."""


class OllamaEmbedRequest(_EmbedFields, frozen=True, kw_only=True):
    """Body of POST /api/embed.

    input: one text or several. truncate: a text that is too long is cut, unless this is false, and
    refused then. dimensions: so many numbers of each vector.
    """

    input: str | list[str]
    truncate: bool | None = None
    dimensions: Dimensions | None = None

    def as_openai(self) -> EmbeddingRequest:
        """Return what asks for the same in OpenAI's words."""
        return EmbeddingRequest(
            model=self.model,
            input=self.input if isinstance(self.input, str) else [*self.input],
            dimensions=self.dimensions,
            truncate_prompt_tokens=None if self.truncate is False else -1,
        )


class OllamaEmbeddingsRequest(_EmbedFields, frozen=True, kw_only=True):
    """Body of POST /api/embeddings, which is older. A text that is too long is cut."""

    prompt: Annotated[str, Meta(min_length=1)]

    def as_openai(self) -> EmbeddingRequest:
        """Return what asks for the same in OpenAI's words."""
        return EmbeddingRequest(model=self.model, input=self.prompt, truncate_prompt_tokens=-1)


class OllamaVectors(msgspec.Struct, frozen=True, kw_only=True):
    """What POST /api/embed answers: vectors of length 1, in the order of the texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET


class OllamaVector(msgspec.Struct, frozen=True):
    """What POST /api/embeddings answers."""

    embedding: list[float]
