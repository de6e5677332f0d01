"""Log-probabilities in the shape that chat answers have: one object a token, bytes included.

Knows tokens, not sequences or HTTP. Called by the chat endpoint; a request without logprobs never
gets here.
"""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.answer_events import AnswerEvent, ReasoningDelta, TextDelta
from gateway.answers.choice import Token
from gateway.answers.logprobs import LOWEST_LOGPROB, token_text
from gateway.schema.chat import ChatLogprobs, TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


class ContentTokens:
    """The tokens of one choice that are the content of its message, as that becomes known.

    What ended the answer is none of them, nor what a stop string cut off, nor a call. Where
    thoughts come first, what is content is not told apart from them.
    """

    def __init__(self) -> None:
        self._waiting: deque[Token] = deque()
        self._num_chars = 0
        self._has_thoughts = False

    def take(self, events: Iterable[AnswerEvent], tokens: Iterable[Token]) -> list[Token]:
        """Return the tokens that are content for certain, now that these have come."""
        for event in events:
            if isinstance(event, TextDelta):
                self._num_chars += len(event.text)
            self._has_thoughts |= isinstance(event, ReasoningDelta)
        self._waiting += [token for token in tokens if not (token.is_prompt or token.is_end)]
        ready = []
        while self._waiting and (
            self._has_thoughts or self._waiting[0].text_offset < self._num_chars
        ):
            ready.append(self._waiting.popleft())
        return ready


def chat_logprobs(
    tokens: Iterable[Token], num_alternatives: int, tokenizer: "Tokenizer"
) -> ChatLogprobs:
    """Return the log-probabilities of tokens that are content."""
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
