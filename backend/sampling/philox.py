"""Philox4x32-10: random numbers as a function of a key and a counter.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). No state:
a draw depends on (seed, choice, output position) alone, so it is the same on every rank, on every
device, after a preemption and after a resumption.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
ROUNDS = 10
# Draws of a row made at once: for one position they cost 60 us, most of it not for the arithmetic.
DRAWS_AHEAD = 32
_NOT_DRAWN = np.int64(-(2**40))


def philox4x32(counter: list[Words], key: list[Words]) -> list[Words]:
    """Return four words for each counter. counter: four, key: two arrays of 32-bit values."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _32) ^ c1 ^ k0,
            product1 & _LOW,
            (product0 >> _32) ^ c3 ^ k1,
            product0 & _LOW,
        )
        k0 = (k0 + np.uint64(_WEYL[0])) & _LOW
        k1 = (k1 + np.uint64(_WEYL[1])) & _LOW
    return [c0, c1, c2, c3]


def uniform(
    seeds: NDArray[np.int64], choices: NDArray[np.int64], positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Draw one number in [0, 1) for each (seed, choice, position), with 53 random bits."""
    seed = seeds.astype(np.uint64)
    zero = np.zeros_like(seed)
    counter = [positions.astype(np.uint64) & _LOW, choices.astype(np.uint64) & _LOW, zero, zero]
    high, low, _, _ = philox4x32(counter, [seed & _LOW, seed >> _32])
    bits = ((high << _32) | low) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


class RowDraws:
    """The draws of a batch's rows, made some positions ahead."""

    def __init__(self, num_rows: int) -> None:
        self._seed = np.zeros(num_rows, np.int64)
        self._choice = np.zeros(num_rows, np.int64)
        self._drawn = np.zeros((num_rows, DRAWS_AHEAD))
        self._first_drawn = np.full(num_rows, _NOT_DRAWN)

    def join(self, row: int, seed: int, choice: int) -> None:
        """Give a row to another sequence."""
        self._seed[row] = seed
        self._choice[row] = choice
        self._first_drawn[row] = _NOT_DRAWN

    def at(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what `uniform` gives for each of these rows at its position; both [N]."""
        offsets = positions - self._first_drawn[rows]
        stale = (offsets < 0) | (offsets >= DRAWS_AHEAD)
        if stale.any():
            behind, first = rows[stale], positions[stale]
            keys = (self._seed[behind], self._choice[behind], first)
            seeds, choices, starts = (np.repeat(key, DRAWS_AHEAD) for key in keys)
            ahead = np.tile(np.arange(DRAWS_AHEAD), len(behind))
            draws = uniform(seeds, choices, starts + ahead)
            self._drawn[behind] = draws.reshape(len(behind), DRAWS_AHEAD)
            self._first_drawn[behind] = first
            offsets[stale] = 0
        drawn: NDArray[np.float64] = self._drawn[rows, offsets]
        return drawn
