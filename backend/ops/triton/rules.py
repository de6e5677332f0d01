"""The logits processors of sampling/logits_processors.py on the device, in one launch.

A program has one row, and reads what that row asks for from its record: a block of words of its
own, which begins with a header and goes on with lists (see sampling/device_record.py, which writes
it; the words of the header are numbered here). Tokens are noted in it on the device, as a step runs
them: nothing of it is read by the host.
"""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

# Words of a record's header. Those with two are float64.
NUM_HISTORY: tl.constexpr = tl.constexpr(0)
NUM_DISTINCT: tl.constexpr = tl.constexpr(1)
CAPACITY: tl.constexpr = tl.constexpr(2)
NUM_PROMPT: tl.constexpr = tl.constexpr(3)
NGRAM_SIZE: tl.constexpr = tl.constexpr(4)
MIN_TOKENS: tl.constexpr = tl.constexpr(5)
NUM_BIASES: tl.constexpr = tl.constexpr(6)
NUM_ENDS: tl.constexpr = tl.constexpr(7)
NUM_BAD_WORDS: tl.constexpr = tl.constexpr(8)
NUM_ALLOWED: tl.constexpr = tl.constexpr(9)
REPETITION: tl.constexpr = tl.constexpr(10)
LOOKS_BACK: tl.constexpr = tl.constexpr(11)
FREQUENCY: tl.constexpr = tl.constexpr(12)
PRESENCE: tl.constexpr = tl.constexpr(14)
HEADER: tl.constexpr = tl.constexpr(16)

_BLOCK: tl.constexpr = tl.constexpr(1024)
_PIECE: tl.constexpr = tl.constexpr(4096)


class StepTokens(NamedTuple):
    """Which token of a step each of N sampled rows ends with, to be noted.

    last: [N] int32, into input_ids and positions, [T] int32 of the whole step.
    """

    last: Tensor
    input_ids: Tensor
    positions: Tensor


def apply_rules(
    logits: Tensor, rows: Tensor, positions: Tensor, records: Tensor, step: StepTokens
) -> None:
    """Note each row's token, and apply its processors to its logits, in place.

    logits: [N, V] float32. rows: [N] int32, into records; -1: a padding row. positions: [N] int32,
    of the output. records: [R] int64, the address of each row's record; 0: it has none.
    """
    if logits.numel():
        _apply_rules[(len(logits),)](
            logits, logits.stride(0), logits.shape[1], rows, positions, *step, records
        )


def apply_masks(logits: Tensor, which: Tensor, masks: Tensor) -> None:
    """Set -inf for what a mask forbids; bit i of word w allows token 32 w + i.

    which: [M] int32, rows of logits. masks: [M, W] int32; what is behind the last bit is forbidden.
    """
    if masks.numel():
        num_pieces = triton.cdiv(logits.shape[1], _PIECE.value)
        _apply_masks[(len(masks), num_pieces)](
            logits,
            logits.stride(0),
            logits.shape[1],
            which,
            masks,
            masks.stride(0),
            masks.shape[1],
        )


@triton.jit
def _note(record, token):
    """Add a token to the history, and to the distinct tokens or their counts."""
    length, num_distinct = tl.load(record + NUM_HISTORY), tl.load(record + NUM_DISTINCT)
    capacity = tl.load(record + CAPACITY)
    distinct = record + HEADER + capacity
    counts = distinct + capacity
    place = num_distinct
    for start in range(0, num_distinct, _BLOCK):
        places = start + tl.arange(0, _BLOCK)
        known = tl.load(distinct + places, mask=places < num_distinct, other=-1)
        place = tl.minimum(place, tl.min(tl.where(known == token, places, num_distinct), 0))
    is_output = (length >= tl.load(record + NUM_PROMPT)).to(tl.int32)
    count = tl.load(counts + place, mask=place < num_distinct, other=0)
    # Nobody may read a list's end that another has moved on already.
    tl.debug_barrier()
    tl.store(record + HEADER + length, token)
    tl.store(distinct + place, token)
    tl.store(counts + place, count + is_output)
    tl.store(record + NUM_HISTORY, length + 1)
    tl.store(record + NUM_DISTINCT, tl.maximum(num_distinct, place + 1))
    tl.debug_barrier()


@triton.jit
def _penalise(row, width, record):
    """Take the penalties of repetition, presence and frequency."""
    capacity = tl.load(record + CAPACITY)
    num_distinct = tl.load(record + NUM_DISTINCT)
    distinct = record + HEADER + capacity
    repetition = tl.load((record + REPETITION).to(tl.pointer_type(tl.float32)))
    frequency = tl.load((record + FREQUENCY).to(tl.pointer_type(tl.float64)))
    presence = tl.load((record + PRESENCE).to(tl.pointer_type(tl.float64)))
    if (repetition != 1.0) | (frequency != 0.0) | (presence != 0.0):
        for start in range(0, num_distinct, _BLOCK):
            places = start + tl.arange(0, _BLOCK)
            inside = places < num_distinct
            tokens = tl.load(distinct + places, mask=inside, other=width)
            inside &= tokens < width
            counts = tl.load(distinct + capacity + places, mask=inside, other=0)
            values = tl.load(row + tokens, mask=inside, other=0.0)
            divisors = tl.zeros([_BLOCK], tl.float32) + repetition
            raised = tl.div_rn(values, divisors)
            if repetition != 1.0:
                values = tl.where(values > 0.0, raised, values * repetition)
            taken = (counts.to(tl.float64) * frequency + presence).to(tl.float32)
            values = tl.where(counts > 0, values - taken, values)
            tl.store(row + tokens, values, mask=inside)


@triton.jit
def _ban_list(row, width, tokens, count):
    for start in range(0, count, _BLOCK):
        places = start + tl.arange(0, _BLOCK)
        banned = tl.load(tokens + places, mask=places < count, other=width)
        tl.store(row + banned, float("-inf"), mask=banned < width)


@triton.jit
def _ban_words(row, width, history, length, words, end):
    """Ban the last token of each word whose others the history ends with. words: of each its length
    and its tokens."""
    at = end * 0
    while at < end:
        size = tl.load(words + at)
        is_here = (size - 1 <= length).to(tl.int32)
        if is_here == 1:
            for place in range(0, size - 1):
                told = tl.load(words + at + 1 + place)
                is_here &= (tl.load(history + length - (size - 1) + place) == told).to(tl.int32)
        last = tl.load(words + at + size)
        tl.store(row + last, float("-inf"), mask=(is_here == 1) & (last < width))
        at += 1 + size


@triton.jit
def _ban_ngrams(row, width, history, length, size):
    """Ban what has followed the last size - 1 tokens before."""
    for start in range(0, length - size + 1, _BLOCK):
        places = start + tl.arange(0, _BLOCK)
        inside = places <= length - size
        for back in range(0, size - 1):
            told = tl.load(history + length - size + 1 + back)
            inside &= tl.load(history + places + back, mask=inside, other=-1) == told
        banned = tl.load(history + places + size - 1, mask=inside, other=width)
        tl.store(row + banned, float("-inf"), mask=inside & (banned < width))


@triton.jit
def _allow(row, width, words, num_words):
    for start in range(0, width, _BLOCK):
        tokens = start + tl.arange(0, _BLOCK)
        word = tokens // 32
        bits = tl.load(words + word, mask=word < num_words, other=0)
        is_allowed = ((bits >> (tokens % 32)) & 1) != 0
        tl.store(row + tokens, float("-inf"), mask=(tokens < width) & (is_allowed == 0))


@triton.jit(
    do_not_specialize_on_alignment=["rows", "positions", "last", "input_ids", "token_positions"]
)
def _apply_rules(
    logits, row_stride, width, rows, positions, last, input_ids, token_positions, records
):
    n = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + n)
    address = tl.load(records + row, mask=row >= 0, other=0)
    if address == 0:
        return
    record = address.to(tl.pointer_type(tl.int32))
    capacity = tl.load(record + CAPACITY)
    if tl.load(record + LOOKS_BACK) == 1:
        at = tl.load(last + n)
        length = tl.load(record + NUM_HISTORY)
        if (length == tl.load(token_positions + at)) & (length < capacity):
            _note(record, tl.load(input_ids + at))
    of_row = logits + n * row_stride
    history = record + HEADER
    lists = history + 3 * capacity
    num_biases, num_ends = tl.load(record + NUM_BIASES), tl.load(record + NUM_ENDS)
    num_bad = tl.load(record + NUM_BAD_WORDS)
    for start in range(0, num_biases, _BLOCK):
        places = start + tl.arange(0, _BLOCK)
        inside = places < num_biases
        tokens = tl.load(lists + places, mask=inside, other=width)
        inside &= tokens < width
        values = (lists + num_biases).to(tl.pointer_type(tl.float32))
        added = tl.load(values + places, mask=inside, other=0.0)
        old = tl.load(of_row + tokens, mask=inside, other=0.0)
        tl.store(of_row + tokens, old + added, mask=inside)
    tl.debug_barrier()
    _penalise(of_row, width, record)
    # A penalty that is written after its token was banned would let it back in.
    tl.debug_barrier()
    ends = lists + 2 * num_biases
    if tl.load(positions + n) < tl.load(record + MIN_TOKENS):
        _ban_list(of_row, width, ends, num_ends)
    length = tl.load(record + NUM_HISTORY)
    words = ends + num_ends
    _ban_words(of_row, width, history, length, words, num_bad)
    size = tl.load(record + NGRAM_SIZE)
    if size > 0:
        _ban_ngrams(of_row, width, history, length, size)
    num_allowed = tl.load(record + NUM_ALLOWED)
    if num_allowed > 0:
        _allow(of_row, width, words + num_bad, num_allowed)


@triton.jit
def _apply_masks(logits, row_stride, width, which, masks, mask_stride, num_words):
    m = tl.program_id(0).to(tl.int64)
    n = tl.load(which + m).to(tl.int64)
    tokens = tl.program_id(1) * _PIECE + tl.arange(0, _PIECE)
    words = tokens // 32
    bits = tl.load(masks + m * mask_stride + words, mask=words < num_words, other=0)
    is_allowed = ((bits >> (tokens % 32)) & 1) != 0
    forbidden = (tokens < width) & (is_allowed == 0) & (n >= 0)
    tl.store(logits + n * row_stride + tokens, float("-inf"), mask=forbidden)
