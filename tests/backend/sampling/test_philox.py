"""The generator against Random123's published vectors (kat_vectors, philox4x32 10)."""

import numpy as np
import pytest

from backend.sampling.philox import philox4x32, uniform

VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text: str) -> list[np.ndarray[tuple[int], np.dtype[np.uint64]]]:
    return [np.array([int(word, 16)], np.uint64) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter: str, key: str, expected: str) -> None:
    got = philox4x32(words(counter), words(key))
    assert [f"{int(word[0]):08x}" for word in got] == expected.split()


def test_draws_are_uniform_and_depend_on_all_three() -> None:
    positions = np.arange(20_000)
    zeros = np.zeros_like(positions)
    draws = uniform(zeros, zeros, positions)
    assert 0 <= draws.min() and draws.max() < 1
    # Chi-square of 20 bins, 19 degrees of freedom: 43.8 is the 0.1 % point; no draw varies.
    counts = np.histogram(draws, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8
    assert uniform(zeros + 1, zeros, positions)[0] != draws[0]
    assert uniform(zeros, zeros + 1, positions)[0] != draws[0]
    assert uniform(zeros - 1, zeros, positions)[0] != draws[0]
