"""One choice being generated, as the scheduler sees it: counts of tokens and a list of blocks."""

import enum
from dataclasses import dataclass, field

from backend.wire.sampling import SamplingParams

SeqKey = tuple[int, int]
"""(worker, seq_id): seq_id is unique in one worker only."""


class SequenceStatus(enum.Enum):
    """Moved by Scheduler alone: WAITING -> RUNNING -> FINISHED, RUNNING -> WAITING (preempted),
    WAITING -> FINISHED (aborted)."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    FINISHED = enum.auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens so far and how many of them the KV cache holds.

    token_ids: prompt, then output. num_computed_tokens of them are in the KV cache; the sequence
    decodes when all but the last are. num_cached_tokens of the prompt came from the prefix cache.
    order: (priority, arrival); the lowest of a tenant is served first and preempted last.
    row: the slot of its sampling state on every rank, -1 when not running.
    is_settled: its row has run a step of one token and was sampled, as in every step from then on;
    all of its prompt is computed and scored.
    end_token_ids, max_num_tokens: what it ends with, and at which length, known once it is added.
    num_scored_tokens: prompt tokens whose scores were delivered, if they are asked for; the first
    has none. block_hashes: of the full blocks, filled as far as was needed.
    """

    key: SeqKey
    token_ids: list[int]
    num_prompt_tokens: int
    params: SamplingParams
    cache_salt: str = ""
    priority: int = 0
    tenant: str = ""
    order: tuple[int, int] = (0, -1)
    status: SequenceStatus = SequenceStatus.WAITING
    row: int = -1
    is_settled: bool = False
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_scored_tokens: int = 1
    end_token_ids: frozenset[int] = frozenset()
    max_num_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        return len(self.token_ids) - self.num_computed_tokens

    def samples(self, count: int) -> bool:
        """Whether running `count` more tokens reaches the end, whose logits give the next token."""
        return count == self.num_uncomputed_tokens and self.params.max_tokens > 0

    def scores_due(self, count: int) -> range:
        """Which of the next `count` tokens have a successor in the prompt whose score is owed.

        Indices into token_ids. After a preemption tokens run again whose scores were delivered.
        """
        if self.params.prompt_logprobs is None:
            return range(0)
        start = self.num_computed_tokens
        first = max(start, self.num_scored_tokens - 1)
        return range(first, min(start + count, self.num_prompt_tokens - 1))
