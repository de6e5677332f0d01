"""One sequence being generated, as the scheduler sees it: counts of tokens, lists of blocks."""

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
    row: its row of the block tables and of every rank's sampling state, -1 when not running.
    num_scheduled: how many of its tokens the step at hand runs; 0 for none.
    is_decoding: a step has run nothing but its newest token, and so will the next; all of its
    prompt is computed, and scored if that was asked for.
    stop_ids, max_num_tokens: what it ends with, and at which length, known once it is added.
    num_prompt_logprobs: prompt tokens whose log-probabilities were delivered, if they are asked
    for; the first has none. num_blocks: blocks that hold its tokens so far, in each cache group.
    is_pooled: it gets a vector, and no tokens.
    second_segment: where the second text of a pair begins; 0: there is none. block_tables: of each
    group, which of them it has: the last ones, all but those that no token of
    it sees any more. block_hashes: of the full blocks, filled as far as was needed.
    encoder_ids: of an encoder-decoder, what its encoder reads; token_ids begin with what its
    decoder begins with then. cross_table: blocks that hold what the decoder attends to of it.
    state_slot: where layers that keep states have those of the tokens computed so far, -1: none;
    next_slot: where they will be after the next step. num_matched_blocks: of its prefix, how many
    others have computed, whether or not their states are left. newest_snapshot: hash of the last
    part of its answer whose states were kept.
    """

    key: SeqKey
    token_ids: list[int]
    num_prompt_tokens: int
    params: SamplingParams
    cache_salt: str = ""
    priority: int = 0
    tenant: str = ""
    second_segment: int = 0
    is_pooled: bool = False
    order: tuple[int, int] = (0, -1)
    status: SequenceStatus = SequenceStatus.WAITING
    row: int = -1
    num_scheduled: int = 0
    is_decoding: bool = False
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_prompt_logprobs: int = 1
    stop_ids: frozenset[int] = frozenset()
    max_num_tokens: int = 0
    num_blocks: int = 0
    block_tables: list[list[int]] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    encoder_ids: list[int] = field(default_factory=list)
    cross_table: list[int] = field(default_factory=list)
    state_slot: int = -1
    next_slot: int = -1
    num_matched_blocks: int = 0
    newest_snapshot: bytes = b""

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def num_unencoded_tokens(self) -> int:
        """What its encoder is to read in the step that runs the first of its tokens."""
        return 0 if self.num_computed_tokens else len(self.encoder_ids)

    @property
    def is_sampled(self) -> bool:
        """Whether the step at hand reaches the end, whose logits give the next token, or whose
        hidden states are pooled."""
        reaches_end = self.num_scheduled >= self.num_uncomputed_tokens
        return reaches_end and (self.is_pooled or self.params.max_tokens > 0)

    def logprobs_due(self) -> range:
        """Return which tokens of the step at hand have a successor in the prompt to be scored.

        Indices into token_ids. After a preemption tokens run again whose successors' logprobs were
        delivered.
        """
        if self.params.prompt_logprobs is None:
            return range(0)
        start = self.num_computed_tokens
        first = max(start, self.num_prompt_logprobs - 1)
        return range(first, min(start + self.num_scheduled, self.num_prompt_tokens - 1))
