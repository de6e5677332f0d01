"""What may come next in an output that begins with a thought.

While the model thinks anything may come; the thought is ended where it has had its tokens; what it
says afterwards is held to a grammar, if there is one. Must not know how a thought is written but
for the tokens of its marks. Used by matchers.py.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backend.wire.sampling import Thought

if TYPE_CHECKING:
    from backend.structured_output.grammar import Matcher

# Models put a line break or two between a thought and what they say.
MAX_SPACES = 2


class ThoughtMatcher:
    """How far one output has come: before its thought, in it, or behind it."""

    def __init__(
        self,
        thought: Thought,
        pieces: Sequence[bytes],
        eos_token_ids: Sequence[int],
        new_matcher: Callable[[], "Matcher"] | None,
        calls: "Matcher | None" = None,
    ) -> None:
        """pieces: the bytes of every token. new_matcher: makes one for what comes after the
        thought, or instead of it; None where that may be anything. calls: that of thought.calls."""
        self._thought = thought
        self._pieces = pieces
        self._eos_token_ids = list(eos_token_ids)
        self._new_matcher = new_matcher
        self._matcher = new_matcher() if new_matcher is not None else None
        # Marks that the output may begin with, and how many tokens of one there are so far.
        self._marks = [thought.opening, *([thought.closing] if thought.closes_alone else [])]
        self._num_opened = 0
        self._num_tokens = 0  # of the thought so far
        self._num_closed = 0  # tokens of the closing that have been forced
        self._tail = b""  # of the thought, where its end may be beginning
        self._last_ids: tuple[int, ...] = ()  # of the thought, as many as its end has
        self._state = self._thinking if not thought.opening else self._opening
        self._num_spaces = 0
        self._calls = calls
        self._has_called = False  # within the thought

    # The states. Each takes a token and says whether it fits.

    def _opening(self, token_id: int) -> bool:
        if marks := [mark for mark in self._marks if mark[self._num_opened] == token_id]:
            self._marks = marks
            self._num_opened += 1
            if len(marks[0]) == self._num_opened:
                self._matcher = self._new_matcher() if self._new_matcher is not None else None
                if marks[0] == self._thought.opening:
                    self._state = self._thinking
                else:
                    self._end()
            elif self._matcher is not None and not self._matcher.accept(token_id):
                self._matcher = None
            return True
        if not self._num_opened and self._is_space(token_id):
            # Some models write a line break before they think.
            return self._matcher is None or self._matcher.accept(token_id)
        self._state = self._saying
        if self._matcher is None:
            return self._new_matcher is None
        return self._matcher.accept(token_id)

    def _thinking(self, token_id: int) -> bool:
        closing = self._thought.closing
        if self._is_over_budget:
            if token_id != closing[self._num_closed]:
                return False
            self._num_closed += 1
            if self._num_closed == len(closing):
                self._end()
            return True
        if self._is_end(token_id) and not self._may_end:
            return False
        was_calling = self._is_calling
        if self._calls is not None and self._calls.knows(token_id):
            if not self._calls.accept(token_id):
                return False
        elif was_calling:
            return False
        self._has_called |= self._is_calling
        if was_calling:
            return True
        self._num_tokens += 1
        self._tail += self._pieces[token_id] if token_id < len(self._pieces) else b""
        self._last_ids = (*self._last_ids, token_id)[-len(closing) :]
        text = self._thought.closing_text.encode()
        # Special tokens have no bytes, and others may be cut in several ways.
        if self._last_ids == closing or text in self._tail:
            self._end()
        self._tail = self._tail[-len(text) :]
        return True

    def _spacing(self, token_id: int) -> bool:
        """Behind the thought, where white space may come though the grammar begins without."""
        if self._is_space(token_id) and not self._is_in_grammar(token_id):
            self._num_spaces += 1
            if self._num_spaces == MAX_SPACES:
                self._state = self._saying
            return True
        self._state = self._saying
        return self._saying(token_id)

    def _saying(self, token_id: int) -> bool:
        return self._matcher is None or self._matcher.accept(token_id)

    @property
    def is_free(self) -> bool:
        """Whether anything may come next."""
        if self._new_matcher is not None or self._calls is not None:
            return False
        return self._state != self._thinking or not self._is_over_budget

    def mask(self, out: NDArray[np.int32]) -> None:
        """Set the bits of the tokens that may come next, lowest bit first; see Matcher.mask()."""
        if self._state == self._thinking:
            self._mask_thought(out)
            return
        if self._matcher is None and self._state != self._opening:
            out[:] = -1
            return
        if self._matcher is not None:
            self._matcher.mask(out)
        else:
            out[:] = 0 if self._new_matcher is not None else -1
        if self._state == self._opening:
            _set(out, [mark[self._num_opened] for mark in self._marks])
        elif self._state == self._spacing:
            _set(out, self._thought.space_ids)

    def accept(self, token_id: int) -> bool:
        """Move past a token; False if it does not fit."""
        return self._state(token_id)

    @property
    def _is_over_budget(self) -> bool:
        most = self._thought.max_tokens
        return most is not None and self._num_tokens >= most and not self._is_calling

    @property
    def _is_calling(self) -> bool:
        """Whether a call is open, within the thought."""
        return self._calls is not None and not self._calls.may_end

    @property
    def _may_end(self) -> bool:
        """Whether an answer may end within its thought: with the call that it has made."""
        return self._new_matcher is None or (self._has_called and not self._is_calling)

    def _is_end(self, token_id: int) -> bool:
        return token_id in self._eos_token_ids

    def _mask_thought(self, out: NDArray[np.int32]) -> None:
        if self._is_over_budget:
            out[:] = 0
            _set(out, [self._thought.closing[self._num_closed]])
            return
        out[:] = -1
        if self._calls is not None:
            self._calls.mask(out)
            if self._is_calling:
                return
            self._calls.add_unknown(out)
        if self._may_end:
            return
        for token_id in self._eos_token_ids:
            # The answer is still to come.
            word, bit = divmod(token_id, 32)
            if word < len(out):
                out[word] &= ~np.int32(np.uint32(1 << bit).view(np.int32))

    def _end(self) -> None:
        if self._has_called:
            self._matcher = self._calls  # what was demanded of the answer has come
            self._state = self._saying
            return
        self._state = self._spacing if self._matcher is not None else self._saying

    def _is_space(self, token_id: int) -> bool:
        return token_id in self._thought.space_ids

    def _is_in_grammar(self, token_id: int) -> bool:
        assert self._matcher is not None
        out = np.zeros(len(self._pieces) // 32 + 1, np.int32)
        self._matcher.mask(out)
        return bool(out[token_id // 32] >> (token_id % 32) & 1)


def _set(out: NDArray[np.int32], token_ids: Sequence[int]) -> None:
    for token_id in token_ids:
        word, bit = divmod(token_id, 32)
        if word < len(out):
            out[word] |= np.uint32(1 << bit).view(np.int32)
