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
    ) -> None:
        """pieces: the bytes of every token. new_matcher: makes one for what comes after the
        thought, or instead of it; None where that may be anything."""
        self._thought = thought
        self._pieces = pieces
        self._eos_token_ids = list(eos_token_ids)
        self._new_matcher = new_matcher
        self._matcher = new_matcher() if new_matcher is not None else None
        self._num_opened = 0  # tokens of the opening so far
        self._num_tokens = 0  # of the thought so far
        self._num_closed = 0  # tokens of the closing that have been forced
        self._tail = b""  # of the thought, where its end may be beginning
        self._state = self._thinking if not thought.opening else self._opening
        self._num_spaces = 0

    # The states. Each takes a token and says whether it fits.

    def _opening(self, token_id: int) -> bool:
        opening = self._thought.opening
        if token_id == opening[self._num_opened]:
            self._num_opened += 1
            if self._num_opened == len(opening):
                self._matcher = self._new_matcher() if self._new_matcher is not None else None
                self._state = self._thinking
            elif self._matcher is not None and not self._matcher.accept(token_id):
                self._matcher = None
            return True
        if self._new_matcher is None and not self._num_opened and self._is_space(token_id):
            return True
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
        if token_id in self._eos_token_ids and self._new_matcher is not None:
            return False
        self._num_tokens += 1
        self._tail += self._pieces[token_id] if token_id < len(self._pieces) else b""
        text = self._thought.closing_text.encode()
        if (len(closing) == 1 and token_id == closing[0]) or text in self._tail:
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
        if self._new_matcher is not None:
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
            _set(out, [self._thought.opening[self._num_opened]])
        elif self._state == self._spacing:
            _set(out, self._thought.space_ids)

    def accept(self, token_id: int) -> bool:
        """Move past a token; False if it does not fit."""
        return self._state(token_id)

    @property
    def _is_over_budget(self) -> bool:
        most = self._thought.max_tokens
        return most is not None and self._num_tokens >= most

    def _mask_thought(self, out: NDArray[np.int32]) -> None:
        if self._is_over_budget:
            out[:] = 0
            _set(out, [self._thought.closing[self._num_closed]])
            return
        out[:] = -1
        if self._new_matcher is None:
            return
        for token_id in self._eos_token_ids:
            # The answer is still to come.
            word, bit = divmod(token_id, 32)
            if word < len(out):
                out[word] &= ~np.int32(np.uint32(1 << bit).view(np.int32))

    def _end(self) -> None:
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
