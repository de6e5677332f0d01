"""Rotary position embedding (Su et al. 2021): frequencies, and how they are stretched. No torch."""

import math
from typing import Literal

import msgspec

from backend.config.errors import ModelError


class RopeScaling(msgspec.Struct, frozen=True):
    """How rotary frequencies are stretched beyond the trained context.

    linear: every frequency divided by `factor`.
    llama3: low frequencies divided by `factor`, high ones kept, a ramp between.
    factors: one divisor a frequency; how GGUF files store llama3 scaling.
    """

    kind: Literal["linear", "llama3", "factors"]
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_position_embeddings: int = 0
    factors: tuple[float, ...] = ()

    def apply(self, inv_freq: list[float]) -> list[float]:
        """Return the scaled frequencies, radians a position, in the order given."""
        if self.kind == "linear":
            return [freq / self.factor for freq in inv_freq]
        if self.kind == "factors":
            return [freq / by for freq, by in zip(inv_freq, self.factors, strict=True)]
        return [self._llama3(freq) for freq in inv_freq]

    def _llama3(self, freq: float) -> float:
        # Turns that the frequency makes within the context it was trained on decide its share.
        num_turns = self.original_max_position_embeddings * freq / (2 * math.pi)
        share = (num_turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = min(max(share, 0.0), 1.0)
        return kept * freq + (1 - kept) * freq / self.factor


class Rope(msgspec.Struct, frozen=True):
    """Rotation of the first `dim` numbers of each head, halves against each other.

    theta: base of the frequencies. attention_factor: what cosines and sines are multiplied by.
    is_interleaved: the file's rows of queries and keys have the numbers that turn together side by
    side, and come in two halves once they are read.
    Raises ModelError where the numbers contradict each other.
    """

    dim: int
    theta: float = 10000.0
    scaling: RopeScaling | None = None
    attention_factor: float = 1.0
    is_interleaved: bool = False

    def __post_init__(self) -> None:
        if self.theta <= 0:
            raise ModelError(f"rope_theta must be above 0, is {self.theta}")
        if self.dim <= 0 or self.dim % 2:
            raise ModelError(f"rotary embeddings need an even number of dimensions, not {self.dim}")
        scaling = self.scaling
        if scaling and scaling.kind == "factors" and len(scaling.factors) != self.dim // 2:
            raise ModelError(
                f"{len(scaling.factors)} rotary factors for {self.dim} rotated dimensions; "
                f"{self.dim // 2} are needed"
            )

    def inv_freq(self, max_len: int) -> list[float]:
        """Return the frequencies, radians a position, [dim / 2], scaling applied.

        max_len: the longest sequence that will be served.
        """
        inv_freq = [float(self.theta ** (-2 * i / self.dim)) for i in range(self.dim // 2)]
        return self.scaling.apply(inv_freq) if self.scaling else inv_freq
