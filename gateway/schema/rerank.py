"""Body and answer of POST /v1/rerank, in Jina's form, which Cohere's clients read as well.

Must not know tokenizers, pools or HTTP.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.errors import invalid
from gateway.schema.embeddings import EmbeddingUsage
from gateway.schema.pooled import PooledFields


class Document(msgspec.Struct, frozen=True):
    """A document in an object of its own."""

    text: str


class RerankRequest(PooledFields, frozen=True, kw_only=True):
    """Body of POST /v1/rerank.

    query: what is asked. documents: what is ranked by how well it answers that. top_n: so many of
    the best are answered; all by default. return_documents: with their texts. instruction: what the
    query is for, of rerankers that are told so. max_tokens_per_doc: a document counts with so many
    of its first tokens, as Cohere has it.
    """

    query: str
    documents: list[str | Document]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    instruction: str | None = None
    max_tokens_per_doc: Annotated[int, Meta(ge=1)] | None = None

    def texts(self) -> list[str]:
        """Return the documents. Raises ApiError for none and for an empty query."""
        if not self.query:
            raise invalid("Invalid 'query': the string is empty.", "query", "empty_string")
        if not self.documents:
            raise invalid("Invalid 'documents': the array is empty.", "documents", "empty_array")
        return [each.text if isinstance(each, Document) else each for each in self.documents]


class RankedDocument(msgspec.Struct, frozen=True):
    """index: of the document in the request. relevance_score: higher is better."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class ApiVersion(msgspec.Struct, frozen=True):
    """Cohere's version of this form."""

    version: str = "2"


class BilledUnits(msgspec.Struct, frozen=True):
    """Nothing is billed; Cohere's clients look for it."""

    search_units: int = 1


class RerankMeta(msgspec.Struct, frozen=True):
    """What Cohere's answers have beside the results."""

    api_version: ApiVersion = ApiVersion()
    billed_units: BilledUnits = BilledUnits()


class RerankResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The best documents, best first."""

    id: str
    object: str = "list"
    model: str
    results: list[RankedDocument]
    usage: EmbeddingUsage
    meta: RerankMeta = RerankMeta()
