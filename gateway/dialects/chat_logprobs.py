"""Log-probabilities in the shape that chat answers have: one object a token, bytes included.

Knows tokens, not sequences or HTTP. Called by the chat endpoint; a request without logprobs never
gets here.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.answers.choice import Token
from gateway.answers.logprobs import LOWEST_LOGPROB, token_text
from gateway.schema.chat import ChatLogprobs, TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


def chat_logprobs(
    tokens: Iterable[Token], num_alternatives: int, tokenizer: "Tokenizer"
) -> ChatLogprobs:
    """Return the log-probabilities of an answer's tokens."""
    entries = []
    for token in tokens:
        if token.logprobs is None:
            continue
        top = [
            TopLogprob(*_written(token_id, logprob, tokenizer))
            for token_id, logprob in token.logprobs.top[:num_alternatives]
        ]
        written = _written(token.token_id, token.logprobs.logprob, tokenizer)
        entries.append(TokenLogprob(*written, top))
    return ChatLogprobs(entries)


def _written(token_id: int, logprob: float, tokenizer: "Tokenizer") -> tuple[str, float, list[int]]:
    piece = tokenizer.piece(token_id)
    data = piece.encode() if isinstance(piece, str) else piece
    return token_text(token_id, tokenizer), max(logprob, LOWEST_LOGPROB), list(data)
