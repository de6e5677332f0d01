"""StepPlan: what the model runs next, as one flat block of integers.

    words (int32)        shape                  meaning
    header               [15]                   magic, step, G, T, S, N, P, B, X, E, C, K, M, W,
                                                number of decodes
    input_ids            [T]                    tokens to run, sequence after sequence; -1 - r: the
                                                one drawn last for row r, which the lead has not
                                                seen yet
    positions            [T]                    place of each token in its sequence
    slot_mapping         [G, T]                 where its keys and values go: block * size + offset
    query_starts         [S + 1]                sequence s owns tokens starts[s] .. starts[s + 1]
    context_lens         [S]                    tokens of s in the cache after this step
    block_tables         [G, S, B]              blocks of s; where it has none, the nearest it has
    sample_tokens        [N]                    index into [T] whose logits are sampled
    sample_rows          [N]                    slot of the sampling state
    sample_positions     [N]                    output position, part of the draw's key
    logprob_tokens       [P]                    index into [T] whose next token is scored
    logprob_targets      [P]                    that next token, of the prompt
    logprob_counts       [P]                    how many of the best to score beside it
    encoder_ids          [X]                    input of encoders that run, one behind the other
    encoder_slots        [X]                    where its keys and values go
    encoder_lens         [E]                    how long each input is
    cross_lens           [S]                    tokens of the encoder's input that s attends to
    cross_tables         [S, C]                 blocks of s that hold their keys and values
    state_starts         [K + 1]                segment k runs tokens starts[k] .. starts[k + 1]
    state_reads          [K]                    slot whose states it goes on from; -1: from zeros
    state_writes         [K]                    slot that gets its states after its last token
    mask_samples         [M]                    index into [N] of rows with a grammar
    masks                [M, W]                 their allowed tokens, 32 to a word, lowest bit first
    then, as bytes       joins (msgpack)        rows that join: their SamplingParams and history

G cache groups, T tokens, S sequences, N samples, P scored prompt tokens, B blocks of the longest
sequence, K segments. Where the model has no encoder, C is 0 and the five parts of encoders take no
words. Of a model whose layers keep states each sequence is a segment, or several, cut where its
states are to be kept; of others K is 0 and the three parts take no words. A sequence has no block
where it has no token, and in a group with a window none for what nothing sees any more. The first
`num_decodes` sequences run one token. The lead writes it; the parts are views into the block, and a
device takes it in one copy. Its checksum is the ring record's; its step number must be one more
than the last.
"""

import itertools
from collections.abc import Sequence as ListLike
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from backend.wire.sampling import SamplingParams

Ints = NDArray[np.int32]

MAGIC: Final = 0x57E9
HEADER_WORDS: Final = 15

# These stand in the place of a drawn token: the row's processors allow none, or its own code or
# logits failed.
NO_TOKEN: Final = -1
FAULTY: Final = -2


class PlanCorrupt(Exception):
    """Not a plan, or not the one that follows the last. The group must not go on."""


class Join(msgspec.Struct, frozen=True, array_like=True):
    """A row's sampling state begins. A row that joins again has been left by its last owner.

    token_ids: prompt and output so far, empty when no rule of these parameters looks back.
    second_segment: place of the first token of a pair's second text; 0: there is none.
    """

    row: int
    params: SamplingParams
    token_ids: list[int] = []
    num_prompt_tokens: int = 0
    second_segment: int = 0


class PlannedSequence(msgspec.Struct, frozen=True):
    """One sequence's share of a step. output_position is None when its last token is not sampled.

    block_table: its blocks in the first cache group; more_tables: in the others, each as long.
    logprob_targets: tokens to be scored, each by the logits of the token before it; the first is
    scored by token_ids[logprob_offset]. cross_table: blocks of what it attends to of an encoder's
    input, of num_encoder_tokens; encoder_ids: that input, if the encoder runs in this step.
    state_segments: of its tokens, how many each has, the slot it reads and the one it writes.
    """

    token_ids: list[int]
    start: int
    block_table: list[int]
    row: int
    output_position: int | None
    logprob_offset: int = 0
    logprob_targets: list[int] = []
    logprob_count: int = 0
    more_tables: list[list[int]] = []
    cross_table: list[int] = []
    num_encoder_tokens: int = 0
    encoder_ids: list[int] = []
    state_segments: list[tuple[int, int, int]] = []


@dataclass(slots=True)
class PromptLogprobs:
    """Which log-probabilities of prompts a step gives, P of each: index into [T], its successor,
    how many of the best beside that."""

    tokens: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


class CrossColumns(NamedTuple):
    """What the sequences of a step attend to of their encoders' inputs.

    lens [S], tables [S, C]: of each sequence. encoded: index into [S] of those whose encoder runs.
    inputs: of each of these, the tokens.
    """

    lens: Ints
    tables: Ints
    encoded: list[int]
    inputs: list[list[int]]


class StateColumns(NamedTuple):
    """The segments of a step's sequences, one after the other: where each begins, and the end of
    the last, [K + 1]; the slots that each reads and writes, [K]."""

    starts: ListLike[int] | Ints
    reads: ListLike[int] | Ints
    writes: ListLike[int] | Ints


class StepColumns(NamedTuple):
    """What the sequences of a step run, in columns; those that run one token come first.

    token_ids [T]: of all. starts, lens [S]: place of a sequence's first token, how many there are.
    tables [G, S, B]. samples [N]: index into [S] of those whose last token is sampled; sample_rows
    and sample_positions [N] are these sequences'.
    """

    token_ids: list[int]
    starts: Ints
    lens: Ints
    tables: Ints
    samples: NDArray[np.intp]
    sample_rows: Ints
    sample_positions: Ints
    prompt_logprobs: PromptLogprobs
    cross: CrossColumns | None = None
    states: StateColumns | None = None


_encode_joins = msgspec.msgpack.Encoder().encode
_decode_joins = msgspec.msgpack.Decoder(list[Join]).decode


class StepPlan:
    """Read-only views into one block of words; see the module for the layout."""

    def __init__(self, words: Ints, joins: ListLike[Join]) -> None:
        """words: int32, without the bytes of `joins`. Raises PlanCorrupt."""
        if len(words) < HEADER_WORDS or words[0] != MAGIC:
            raise PlanCorrupt("not a step plan")
        header = words[:HEADER_WORDS].tolist()
        _, self.step, num_groups, num_tokens, num_seqs, *_ = header
        num_masks, mask_words, num_decodes = header[-3:]
        self.words = words
        self.joins = joins
        self.num_groups: int = num_groups
        self.num_tokens: int = num_tokens
        self.num_seqs: int = num_seqs
        self.num_decodes: int = num_decodes
        lengths = _lengths(header)
        ends = list(itertools.accumulate(lengths, initial=HEADER_WORDS))
        if ends[-1] != len(words) or min(lengths) < 0:
            raise PlanCorrupt(f"a plan of {len(words)} words should have {ends[-1]}")
        parts = [words[a:b] for a, b in itertools.pairwise(ends)]
        self.input_ids, self.positions = parts[:2]
        self.slot_mapping = parts[2].reshape(num_groups, num_tokens)
        self.query_starts, self.context_lens = parts[3:5]
        self.block_tables = parts[5].reshape(num_groups, num_seqs, header[7])
        self.sample_tokens, self.sample_rows, self.sample_positions = parts[6:9]
        self.logprob_tokens, self.logprob_targets, self.logprob_counts = parts[9:12]
        self.encoder_ids, self.encoder_slots, self.encoder_lens, self.cross_lens = parts[12:16]
        self.cross_tables = parts[16].reshape(num_seqs, header[10])
        self.state_starts, self.state_reads, self.state_writes = parts[17:20]
        self.mask_samples = parts[20]
        self.masks = parts[21].reshape(num_masks, mask_words)

    def begun_blocks(self, block_size: int) -> Ints:
        """Return the blocks that this step begins and does not fill, of all groups and of encoders'
        inputs, [b]."""
        ends = self.context_lens
        last = (ends - 1) // block_size
        starts = ends - np.diff(self.query_starts)
        begun = np.flatnonzero((last * block_size >= starts) & (ends % block_size > 0))
        blocks = self.block_tables[:, begun, last[begun]].ravel()
        if len(self.encoder_lens) == 0:
            return blocks
        lasts = self.encoder_slots[self.encoder_lens.cumsum() - 1] // block_size
        return np.concatenate([blocks, lasts[self.encoder_lens % block_size > 0]])

    def with_masks(self, samples: ListLike[int], masks: Ints) -> "StepPlan":
        """Return the plan with the masks [M, W] of those samples added. It must have none yet."""
        words = np.concatenate([self.words, np.array(samples, np.int32), masks.ravel()])
        words[12:14] = masks.shape
        return StepPlan(words, self.joins)

    def with_input_ids(self, input_ids: Ints) -> "StepPlan":
        """Return the plan with other input ids, [T]."""
        words = self.words.copy()
        words[HEADER_WORDS : HEADER_WORDS + self.num_tokens] = input_ids
        return StepPlan(words, self.joins)

    def to_bytes(self) -> bytes:
        """Return the plan as one ring record."""
        return self.words.tobytes() + _encode_joins(self.joins)

    @classmethod
    def from_bytes(cls, record: bytes) -> "StepPlan":
        """Read a ring record. Raises PlanCorrupt."""
        header = np.frombuffer(record, np.int32, min(HEADER_WORDS, len(record) // 4))
        if len(header) < HEADER_WORDS:
            raise PlanCorrupt("not a step plan")
        num_words = HEADER_WORDS + sum(_lengths(header.tolist()))
        if not 0 < num_words * 4 <= len(record):
            raise PlanCorrupt("a plan is longer than its record")
        try:
            joins = _decode_joins(memoryview(record)[num_words * 4 :])
        except msgspec.MsgspecError as error:
            raise PlanCorrupt(f"the joining rows cannot be read: {error}") from error
        return cls(np.frombuffer(record, np.int32, num_words).copy(), joins)


def build_plan(
    step: int, sequences: ListLike[PlannedSequence], joins: ListLike[Join], block_size: int
) -> StepPlan:
    """Lay out one step, sequence by sequence. Those that run one token must come first."""
    lens = [len(seq.token_ids) for seq in sequences]
    firsts = itertools.accumulate(lens, initial=0)
    samples = [n for n, seq in enumerate(sequences) if seq.output_position is not None]
    prompt_logprobs = PromptLogprobs()
    for seq, first in zip(sequences, firsts, strict=False):
        num_scored = len(seq.logprob_targets)
        prompt_logprobs.tokens += range(
            first + seq.logprob_offset, first + seq.logprob_offset + num_scored
        )
        prompt_logprobs.targets += seq.logprob_targets
        prompt_logprobs.counts += [seq.logprob_count] * num_scored
    columns = StepColumns(
        [token for seq in sequences for token in seq.token_ids],
        np.array([seq.start for seq in sequences], np.int32),
        np.array(lens, np.int32),
        _pad_tables([[seq.block_table, *seq.more_tables] for seq in sequences]),
        np.array(samples, np.intp),
        np.array([sequences[n].row for n in samples], np.int32),
        np.array([sequences[n].output_position or 0 for n in samples], np.int32),
        prompt_logprobs,
        _cross_columns(sequences),
        _state_columns(sequences),
    )
    return build_columns(step, columns, joins, block_size)


def build_columns(
    step: int, columns: StepColumns, joins: ListLike[Join], block_size: int
) -> StepPlan:
    """Lay out one step, column by column."""
    token_ids, starts, lens, tables, samples, sample_rows, sample_positions, scored = columns[:8]
    cross, states = columns.cross, columns.states
    num_groups, num_seqs, num_blocks = tables.shape
    num_tokens = len(token_ids)
    num_decodes = int(np.count_nonzero(lens == 1))
    sizes = [num_groups, num_tokens, num_seqs, len(samples), len(scored.tokens), num_blocks]
    num_segments = len(states.reads) if states else 0
    header = [MAGIC, step, *sizes, *_cross_sizes(cross), num_segments, 0, 0, num_decodes]
    words = np.empty(HEADER_WORDS + sum(_lengths(header)), np.int32)
    words[:HEADER_WORDS] = header
    plan = StepPlan(words, list(joins))
    plan.input_ids[:] = token_ids
    np.add(starts, lens, out=plan.context_lens)
    plan.query_starts[0] = 0
    lens.cumsum(dtype=np.int32, out=plan.query_starts[1:])
    if num_tokens == num_seqs:
        seq_of_token, plan.positions[:] = np.arange(num_seqs), starts
    else:
        seq_of_token = np.arange(num_seqs).repeat(lens)
        first_positions = starts - plan.query_starts[:-1]
        np.add(np.arange(num_tokens), first_positions[seq_of_token], out=plan.positions)
    blocks, offsets = np.divmod(plan.positions, block_size)
    plan.slot_mapping[:] = tables[:, seq_of_token, blocks] * block_size + offsets
    plan.block_tables[:] = tables
    plan.sample_tokens[:] = plan.query_starts[1:][samples] - 1
    plan.sample_rows[:] = sample_rows
    plan.sample_positions[:] = sample_positions
    if scored.tokens:
        plan.logprob_tokens[:] = scored.tokens
        plan.logprob_targets[:] = scored.targets
        plan.logprob_counts[:] = scored.counts
    if cross is not None:
        _fill_cross(plan, cross, block_size)
    if states is not None:
        plan.state_starts[:], plan.state_reads[:], plan.state_writes[:] = states
    return plan


def _cross_sizes(cross: CrossColumns | None) -> list[int]:
    """X, E and C of the header."""
    if cross is None:
        return [0, 0, 0]
    return [sum(map(len, cross.inputs)), len(cross.inputs), cross.tables.shape[1]]


def _fill_cross(plan: StepPlan, cross: CrossColumns, block_size: int) -> None:
    plan.cross_lens[:] = cross.lens
    plan.cross_tables[:] = cross.tables
    start = 0
    for n, (seq, token_ids) in enumerate(zip(cross.encoded, cross.inputs, strict=True)):
        part = slice(start, start + len(token_ids))
        blocks, offsets = np.divmod(np.arange(len(token_ids)), block_size)
        plan.encoder_ids[part] = token_ids
        plan.encoder_slots[part] = cross.tables[seq, blocks] * block_size + offsets
        plan.encoder_lens[n] = len(token_ids)
        start = part.stop


def _cross_columns(sequences: ListLike[PlannedSequence]) -> CrossColumns | None:
    if not any(seq.cross_table for seq in sequences):
        return None
    encoded = [n for n, seq in enumerate(sequences) if seq.encoder_ids]
    return CrossColumns(
        np.array([seq.num_encoder_tokens for seq in sequences], np.int32),
        _pad_tables([[seq.cross_table] for seq in sequences])[0],
        encoded,
        [sequences[n].encoder_ids for n in encoded],
    )


def _state_columns(sequences: ListLike[PlannedSequence]) -> StateColumns | None:
    segments = [segment for seq in sequences for segment in seq.state_segments]
    if not segments:
        return None
    lens, reads, writes = zip(*segments, strict=True)
    return StateColumns([*itertools.accumulate(lens, initial=0)], reads, writes)


def _lengths(header: ListLike[int]) -> list[int]:
    """Words of each part after the header, in order."""
    _, _, groups, tokens, seqs, samples, prompt_logprobs, blocks, *rest = header
    inputs, encoders, cross_blocks, segments, masks, mask_words, _ = rest
    of_tokens = [tokens, tokens, groups * tokens]
    of_sequences = [seqs + 1, seqs, groups * seqs * blocks]
    scored = [prompt_logprobs] * 3
    cross = [inputs, inputs, encoders, seqs if cross_blocks else 0, seqs * cross_blocks]
    states = [segments + 1 if segments else 0, segments, segments]
    masked = [masks, masks * mask_words]
    return [*of_tokens, *of_sequences, *[samples] * 3, *scored, *cross, *states, *masked]


def _pad_tables(tables: ListLike[ListLike[list[int]]]) -> Ints:
    """[G, S, B] of each sequence's tables; behind each its last block again.

    What is gathered there is hidden, but would spoil the sequence if it held another's NaN.
    """
    width = max((len(table) for each in tables for table in each), default=0)
    num_groups = len(tables[0]) if tables else 1
    padded = np.empty((num_groups, len(tables), width), np.int32)
    for s, each in enumerate(tables):
        for g, table in enumerate(each):
            padded[g, s, : len(table)] = table
            padded[g, s, len(table) :] = table[-1]
    return padded
