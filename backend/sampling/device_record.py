"""What the logits processors of one row need on the device, as one block of words.

    words (int32)      length     what
    header             16         as ops/triton/rules.py numbers them
    history            L          prompt and output, in order
    distinct           L          the tokens among them, once each
    counts             L          how often each came in the output
    bias tokens        B          then B float32, what is added to each
    ends               E          not drawn before min_tokens
    bad words          W          of each its length and its tokens
    allowed            A          bits, 32 tokens a word; none where all are allowed

The host writes it once, when a row joins. Then history, distinct and counts grow on the device, up
to L tokens. A row that no processor touches has none.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backend.ops.triton import rules
from backend.step import Join
from backend.wire.sampling import SamplingParams

Words = NDArray[np.int32]


def record_of(join: Join, eos_token_ids: Sequence[int], vocab_size: int) -> Words | None:
    """Return a row's record as it begins, or None where nothing is asked for."""
    params: SamplingParams = join.params
    if params.keeps_logits:
        return None
    lists = _histories(join)
    capacity = len(lists[0])
    num_history = len(join.token_ids) if params.looks_back else 0
    num_distinct = int(np.count_nonzero(lists[1] >= 0))
    biases: dict[int, float] = {}
    for token, bias in params.logit_bias:
        biases[token] = biases.get(token, 0.0) + bias
    ends = [*(() if params.ignore_eos else eos_token_ids), *params.stop_token_ids]
    bad_words = [word for each in params.bad_words for word in (len(each), *each)]
    allowed = _bits(params.allowed_token_ids, vocab_size)
    lists += [
        np.array([*biases], np.int32),
        np.array([*biases.values()], np.float32).view(np.int32),
        np.array(ends, np.int32),
        np.array(bad_words, np.int32),
        allowed,
    ]
    header = np.zeros(rules.HEADER.value, np.int32)
    for place, number in (
        (rules.NUM_HISTORY, num_history),
        (rules.NUM_DISTINCT, num_distinct),
        (rules.CAPACITY, capacity),
        (rules.NUM_PROMPT, join.num_prompt_tokens),
        (rules.NGRAM_SIZE, params.no_repeat_ngram_size),
        (rules.MIN_TOKENS, params.min_tokens),
        (rules.NUM_BIASES, len(biases)),
        (rules.NUM_ENDS, len(ends)),
        (rules.NUM_BAD_WORDS, len(bad_words)),
        (rules.NUM_ALLOWED, len(allowed)),
        (rules.LOOKS_BACK, int(params.looks_back)),
    ):
        header[place.value] = number
    header.view(np.float32)[rules.REPETITION.value] = params.repetition_penalty
    header.view(np.float64)[rules.FREQUENCY.value // 2] = params.frequency_penalty
    header.view(np.float64)[rules.PRESENCE.value // 2] = params.presence_penalty
    return np.concatenate([header, *lists])


def _histories(join: Join) -> list[Words]:
    """Return history, distinct tokens, -1 behind them, and their counts in the output."""
    if not join.params.looks_back:
        return [np.zeros(0, np.int32)] * 3
    token_ids = np.array(join.token_ids, np.int32)
    longest = max(len(token_ids), join.num_prompt_tokens + join.params.max_tokens)
    history, distinct, counts = (np.full(longest, fill, np.int32) for fill in (-1, -1, 0))
    history[: len(token_ids)] = token_ids
    found = np.unique(token_ids)
    distinct[: len(found)] = found
    output, times = np.unique(token_ids[join.num_prompt_tokens :], return_counts=True)
    counts[np.searchsorted(found, output)] = times
    return [history, distinct, counts]


def _bits(token_ids: tuple[int, ...] | None, vocab_size: int) -> Words:
    """Pack which tokens are allowed; nothing where all are."""
    if token_ids is None:
        return np.zeros(0, np.int32)
    flags = np.zeros(-(-vocab_size // 32) * 32, np.bool_)
    flags[[token for token in token_ids if token < vocab_size]] = True
    return np.packbits(flags, bitorder="little").view(np.int32)
