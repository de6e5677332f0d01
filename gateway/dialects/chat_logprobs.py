"""Log-probabilities in the shape that chat answers have: one object a token, bytes included.

Knows tokens, not sequences or HTTP. Called by the chat endpoint; a request without logprobs never
gets here.
"""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.answer_events import AnswerEvent, TextDelta
from gateway.answers.choice import Token
from gateway.answers.logprobs import LOWEST_LOGPROB, token_text
from gateway.schema.chat_answer import ChatLogprobs, TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


class ContentTokens:
    """The tokens of one choice that are the content of its message, as that becomes known.

    What ended the answer is none of them, nor what a stop string cut off, nor a call, a thought, or
    the marks of either. A token that is content in part is content.
    """

    def __init__(self) -> None:
        self._waiting: deque[Token] = deque()
        self._spans: deque[tuple[int, int]] = deque()  # of text, from where to where
        self._num_chars = 0

    def take(self, events: Iterable[AnswerEvent], tokens: Iterable[Token]) -> list[Token]:
        """Return the tokens that are content for certain, now that these have come."""
        for event in events:
            if isinstance(event, TextDelta) and event.text:
                start = self._num_chars if event.start < 0 else event.start
                self._num_chars = start + len(event.text)
                self._spans.append((start, self._num_chars))
        self._waiting += [token for token in tokens if not (token.is_prompt or token.is_end)]
        ready = []
        while self._waiting and (is_content := self._is_content()) is not None:
            token = self._waiting.popleft()
            if is_content:
                ready.append(token)
        return ready

    def _is_content(self) -> bool | None:
        """Say whether the first token that waits is content; None where that is not yet known."""
        start = self._waiting[0].text_offset
        while self._spans and self._spans[0][1] <= start:
            self._spans.popleft()
        if not self._spans:
            return None
        text_start, _ = self._spans[0]
        if text_start <= start:
            return True
        end = self._waiting[1].text_offset if len(self._waiting) > 1 else None
        return None if end is None else end > text_start


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
