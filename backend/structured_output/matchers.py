"""The grammar state of a group's sequences, kept by the lead alone.

Followers and the sampler see masks only. Knows sequences and token ids; what a grammar means is
grammar.py's. Called by the lead around each step.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backend.scheduler.sequence import SeqKey
from backend.scheduler.sequence import Sequence as Seq
from backend.step import FAULTY, NO_TOKEN, StepPlan
from backend.structured_output.thoughts import ThoughtMatcher

if TYPE_CHECKING:
    from backend.structured_output.grammar import GrammarTable, Matcher

logger = logging.getLogger(__name__)


class Matchers:
    """One matcher for each sequence that has a grammar; nothing for the others."""

    def __init__(self, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._num_words = -(-vocab_size // 32)
        self._eos_token_ids = eos_token_ids
        self._table: GrammarTable | None = None
        self._pieces: list[bytes] = []
        self._matchers: dict[SeqKey, Matcher | ThoughtMatcher] = {}
        self._failed: set[SeqKey] = set()  # in the step at hand

    def learn(self, pieces: list[bytes]) -> None:
        """Take the bytes of every token. Another worker's are the same."""
        from backend.structured_output.grammar import (
            GrammarTable,  # a large library, for those who use it
        )

        if self._table is None:
            self._pieces = pieces
            self._table = GrammarTable(pieces, self._eos_token_ids)

    def add(self, seq: Seq) -> None:
        """Begin a sequence's grammar, if it has one, after the output it has already.

        Raises ValueError for a grammar that cannot be compiled or that the output contradicts.
        """
        grammar, thought = seq.params.grammar, seq.params.thought
        if grammar is None and thought is None:
            return
        if self._table is None:
            raise ValueError("a grammar came before the vocabulary")
        matcher: Matcher | ThoughtMatcher
        new_matcher = None if grammar is None else partial(self._table.matcher, grammar)
        if thought is not None:
            calls = None if thought.calls is None else self._table.matcher(thought.calls)
            matcher = ThoughtMatcher(thought, self._pieces, self._eos_token_ids, new_matcher, calls)
        else:
            assert new_matcher is not None
            matcher = new_matcher()
        for token_id in seq.token_ids[seq.num_prompt_tokens :]:
            if not matcher.accept(token_id):
                raise ValueError("the output so far does not match the grammar")
        self._matchers[seq.key] = matcher

    def watches(self, sampled: Sequence[Seq]) -> bool:
        """Whether a grammar or a thought must see the tokens of these before more are planned."""
        return bool(self._matchers) and any(seq.key in self._matchers for seq in sampled)

    def mask(self, plan: StepPlan, sampled: Sequence[Seq]) -> StepPlan:
        """Add to a plan what each grammar allows next; the plan itself where there is none."""
        if not self._matchers:
            return plan
        samples = [
            n
            for n, seq in enumerate(sampled)
            if (matcher := self._matchers.get(seq.key)) is not None and not matcher.is_free
        ]
        masks = np.zeros((len(samples), self._num_words), np.int32)
        for n, mask in zip(samples, masks, strict=True):
            self._mask(sampled[n], mask)
        return plan.with_masks(samples, masks) if samples else plan

    def _mask(self, seq: Seq, out: NDArray[np.int32]) -> None:
        """Set what may come next; nothing where the grammar fails, so that no rank draws."""
        try:
            self._fill_mask(seq, out)
        except ValueError as error:  # GrammarError: the output cannot go on
            logger.info("seq=%s its grammar ends: %s", seq.key, error)
        except Exception:
            logger.exception("seq=%s its grammar failed", seq.key)
            self._failed.add(seq.key)

    def _fill_mask(self, seq: Seq, out: NDArray[np.int32]) -> None:
        self._matchers[seq.key].mask(out)

    def accept(self, sampled: Sequence[Seq], token_ids: list[int]) -> None:
        """Move each grammar on by the token that was drawn for it.

        What ends the sequence in error takes the place of a token that does not fit.
        """
        if not self._matchers:
            return
        for n, seq in enumerate(sampled):
            matcher = self._matchers.get(seq.key)
            if matcher is None:
                continue
            if seq.key in self._failed:
                token_ids[n] = FAULTY
            elif token_ids[n] >= 0 and not matcher.accept(token_ids[n]):
                token_ids[n] = NO_TOKEN

    def keep(self, is_alive: Callable[[SeqKey], bool]) -> None:
        """Forget the grammars of sequences that are gone."""
        if self._matchers:
            self._matchers = {k: m for k, m in self._matchers.items() if is_alive(k)}
            self._failed.clear()
