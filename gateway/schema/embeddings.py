"""Body and answer of POST /v1/embeddings, as OpenAI has them.

What one field alone cannot say is in inputs(). Must not know tokenizers, pools or HTTP.
"""

from typing import Literal, cast

import msgspec

from gateway.errors import invalid
from gateway.schema.pooled import Dimensions, PooledFields


class EmbeddingRequest(PooledFields, frozen=True, kw_only=True):
    """Body of POST /v1/embeddings.

    input: one text, several, the token ids of one, or those of several; token ids are taken as they
    are. encoding_format: numbers, or the float32 numbers' bytes in base64, lowest byte first.
    dimensions: so many numbers of each vector, made as long as it was; for models trained for that.
    prompt_name: which of the model's own prompts goes in front of each text, such as "query".
    """

    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None
    prompt_name: str | None = None

    def inputs(self) -> list[str | list[int]]:
        """Return the texts one by one, whichever of the four forms they came in.

        Raises ApiError for no text at all, an empty one, and a list of several kinds.
        """
        if isinstance(self.input, str):
            given: list[str | list[int]] = [self.input]
        else:
            kinds = set(map(type, self.input))
            if len(kinds) > 1:
                message = (
                    "Invalid type for 'input': expected an array of strings, of token ids or of "
                    "arrays of token ids, but got a mixture."
                )
                raise invalid(message, "input", "invalid_type")
            if kinds == {int}:
                given = [cast(list[int], self.input)]
            else:
                given = cast(list[str | list[int]], self.input)
        if not given:
            raise invalid("Invalid 'input': the array is empty.", "input", "empty_array")
        for index, each in enumerate(given):
            if not each:
                where = "" if len(given) == 1 else f"[{index}]"
                kind = "string" if isinstance(each, str) else "array"
                message = f"Invalid 'input{where}': the {kind} is empty."
                raise invalid(message, "input", f"empty_{kind}")
        return given


class EmbeddingObject(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of one text. index: of the text in the request."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Token counts of a whole request."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors, in the order of the texts."""

    object: str = "list"
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage
