"""Texts become token ids that a pooled model can take: tokenised, in its vocabulary, short enough.

Owns the forms in which a query and a document stand together. Must not know HTTP or sequences.
Called by the embeddings and rerank endpoints, before anything is submitted.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from gateway.errors import invalid
from gateway.requests.context_length import ContextLength
from gateway.requests.prompt import MAX_INLINE_LENGTH
from gateway.requests.token_ids import check_token_ids
from gateway.schema.embeddings import EmbeddingRequest
from gateway.schema.pooled import PooledFields
from gateway.schema.rerank import RerankRequest
from gateway.service import Service
from gateway.text.tokenizer import TokenizerError

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

T = TypeVar("T")

# Qwen3-Reranker's card: what stands around the pair, and what the query is for unless it is said.
_BEFORE_PAIR = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_AFTER_PAIR = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One text, or two in a form for pairs. second_segment: where the second begins; 0 for one."""

    token_ids: list[int]
    second_segment: int = 0


async def encode_inputs(request: EmbeddingRequest, service: Service) -> list[EncodedText]:
    """Tokenise the texts to be embedded, off the event loop if that takes long.

    Raises ApiError 400 for the first that cannot be.
    """
    inputs = request.inputs()
    _check_number(len(inputs), service, "input")
    prompt = _prompt(request, service)
    encoder = _TextEncoder(request, service, "input")

    def encode(index: int, given: str | list[int]) -> EncodedText:
        if isinstance(given, str):
            return encoder.text(index, prompt + given)
        return encoder.ids(index, given)

    return await _encode_all(encode, inputs, sum(map(len, inputs)))


async def encode_pairs(request: RerankRequest, service: Service) -> list[EncodedText]:
    """Tokenise the query with each document, in the model's own form.

    Raises ApiError 400 for the first that cannot be.
    """
    texts = request.texts()
    _check_number(len(texts), service, "documents")
    encoder = _TextEncoder(request, service, "documents")
    instruction, most = request.instruction or _INSTRUCTION, request.max_tokens_per_doc
    is_decoder = service.pooling is not None and bool(service.pooling.answer_ids)
    if request.instruction and not is_decoder:
        message = "'instruction' cannot be used: this model scores a pair of texts alone."
        raise invalid(message, "instruction", "unsupported_parameter")

    def encode(index: int, document: str) -> EncodedText:
        if is_decoder:
            document = encoder.beginning(document, most)
            return encoder.judged(index, request.query, document, instruction)
        return encoder.pair(index, request.query, document, most)

    length = sum(map(len, texts)) + len(texts) * len(request.query)
    return await _encode_all(encode, texts, length)


async def encode_classified(
    texts: Sequence[str | list[str]], request: PooledFields, service: Service
) -> list[EncodedText]:
    """Tokenise texts, or pairs of them, as a cross-encoder takes them. request: how.

    Raises ApiError 400 for the first that cannot be.
    """
    _check_number(len(texts), service, "text")
    encoder = _TextEncoder(request, service, "text")
    is_decoder = service.pooling is not None and bool(service.pooling.answer_ids)

    def encode(index: int, given: str | list[str]) -> EncodedText:
        match given:
            case [first, second]:
                if is_decoder:
                    return encoder.judged(index, first, second, _INSTRUCTION)
                return encoder.pair(index, first, second)
            case [str(alone)] | str(alone):
                if is_decoder:
                    message = f"'text[{index}]': this model judges pairs: a query and a document."
                    raise invalid(message, "text")
                return encoder.text(index, alone)
        message = f"'text[{index}]' has {len(given)} parts; this model takes one text or a pair."
        raise invalid(message, "text")

    return await _encode_all(encode, texts, sum(len("".join(given)) for given in texts))


class _TextEncoder:
    """Tokenises the texts of one request. param: the field that they come from."""

    def __init__(self, request: PooledFields, service: Service, param: str) -> None:
        self._tokenizer: Tokenizer = service.tokenizer
        self._vocab_size = service.vocab_size
        self._has_segments = service.has_segments
        self._skipped_id = service.pooling.skipped_id if service.pooling else None
        self._param = param
        self._limit = ContextLength(service.pool).num_tokens
        keep = request.truncate_prompt_tokens
        self._keep = min(keep, self._limit) if keep is not None and keep > 0 else keep
        if self._keep == -1:
            self._keep = self._limit

    def text(self, index: int, text: str) -> EncodedText:
        """Return the model's form of a text alone."""
        self._check_least(index, text)
        token_ids = self._try(
            lambda: self._tokenizer.encode(text, parse_special=False, max_length=self._keep)
        )
        if not token_ids:
            raise invalid(f"'{self._param}[{index}]' has no tokens.", self._param, "empty_string")
        return EncodedText(self._checked(index, token_ids))

    def ids(self, index: int, token_ids: list[int]) -> EncodedText:
        """Return token ids as they were given."""
        check_token_ids(token_ids, self._vocab_size, self._param)
        return EncodedText(self._checked(index, token_ids[: self._keep]))

    def beginning(self, text: str, most: int | None) -> str:
        """Return what the first `most` tokens of a text say; None: all of it."""
        if most is None:
            return text
        ids = self._try(
            lambda: self._tokenizer.encode(text, add_special_tokens=False, parse_special=False)
        )
        return text if len(ids) <= most else self._tokenizer.decode(ids[:most])

    def pair(self, index: int, query: str, document: str, most: int | None = None) -> EncodedText:
        """Return a cross-encoder's form of two texts. most: tokens of the second that count."""
        self._check_least(index, query, "" if most else document)
        pair = self._try(
            lambda: self._tokenizer.encode_pair(
                query, document, max_length=self._keep, max_second=most
            )
        )
        second = pair.type_ids.index(1) if self._has_segments and 1 in pair.type_ids else 0
        return EncodedText(self._checked(index, pair.ids), second)

    def judged(self, index: int, query: str, document: str, instruction: str) -> EncodedText:
        """Return a conversation in which a decoder is asked whether the document fits."""
        self._check_least(index, query, document)
        encode = self._tokenizer.encode
        before = self._try(lambda: encode(_BEFORE_PAIR, add_special_tokens=False))
        after = self._try(lambda: encode(_AFTER_PAIR, add_special_tokens=False))
        text = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        inner = self._try(lambda: encode(text, add_special_tokens=False, parse_special=False))
        if self._keep is not None:
            inner = inner[: max(0, self._keep - len(before) - len(after))]
        return EncodedText(self._checked(index, [*before, *inner, *after]))

    def _check_least(self, index: int, *texts: str) -> None:
        """Refuse what is too long however it is cut into tokens: 10 MiB take seconds."""
        if self._keep is None:
            least = sum(map(self._tokenizer.min_num_tokens, texts))
            self._check_length(index, least, "at least ")

    def _checked(self, index: int, token_ids: list[int]) -> list[int]:
        end = len(token_ids)
        if self._skipped_id is not None:
            # What stands behind the token that counts changes nothing of it.
            while end > 1 and token_ids[end - 1] == self._skipped_id:
                end -= 1
        self._check_length(index, end)
        return token_ids[:end]

    def _check_length(self, index: int, num_tokens: int, least: str = "") -> None:
        if num_tokens > self._limit:
            raise invalid(
                f"This model takes {self._limit} tokens of a text at most, however "
                f"'{self._param}[{index}]' has {least}{num_tokens}. Please shorten it, or set "
                "'truncate_prompt_tokens'.",
                self._param,
                "context_length_exceeded",
            )

    def _try(self, encode: Callable[[], T]) -> T:
        try:
            return encode()
        except TokenizerError as error:
            raise invalid(f"Invalid '{self._param}': {error}.", self._param) from None


async def _encode_all(
    encode: Callable[[int, T], EncodedText], given: Sequence[T], length: int
) -> list[EncodedText]:
    """Encode all, in a thread if that takes long. length: characters of them."""

    def encode_all() -> list[EncodedText]:
        return [encode(index, each) for index, each in enumerate(given)]

    return await asyncio.to_thread(encode_all) if length > MAX_INLINE_LENGTH else encode_all()


def _check_number(num_texts: int, service: Service, param: str) -> None:
    most = service.limits.max_inputs
    if num_texts > most:
        message = f"'{param}' has {num_texts} entries; at most {most} are answered at once."
        raise invalid(message, param, "array_above_max_length")


def _prompt(request: EmbeddingRequest, service: Service) -> str:
    try:
        return service.prompts.text(request.prompt_name)
    except KeyError:
        names = ", ".join(service.prompts.prompts) or "it has none"
        message = f"The model has no prompt '{request.prompt_name}': {names}."
        raise invalid(message, "prompt_name") from None
