"""Rotary position embedding (Su et al. 2021): frequencies, and how they are stretched. No torch.

The formulas are those of transformers' rotary utilities and of llama.cpp's ggml_rope_ext.
"""

import math
from typing import Literal

import msgspec

from backend.config.errors import ModelError

RopeKind = Literal["linear", "dynamic", "yarn", "longrope", "llama3", "factors"]


class RopeScaling(msgspec.Struct, frozen=True):
    """How rotary frequencies are stretched beyond the trained context of `original_...` tokens.

    linear: every frequency divided by `factor`.
    dynamic: NTK-aware, the base grows with the length. transformers takes the length of the longest
    row of a batch; here position p turns as the last of p + 1 tokens, whatever else runs, so that
    keys in the cache stay valid.
    yarn: (Peng et al. 2023) frequencies that turn less than beta_slow times in the trained context
    divided by `factor`, those that turn more than beta_fast times kept, a ramp between. truncate:
    the ramp begins and ends at whole frequencies.
    longrope: (Ding et al. 2024) frequencies divided by `long_factors` where sequences beyond the
    trained context are served, else by `factors`. transformers changes over when a sequence gets
    there, and turns keys that are in the cache by other factors than queries; llama.cpp and vLLM
    decide once, as this does.
    llama3: low frequencies divided by `factor`, high ones kept, a ramp between.
    factors: frequencies divided by `factors`, one each; how GGUF files store llama3 scaling. With
    any other kind the file's factors come first.
    """

    kind: RopeKind
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_position_embeddings: int = 0
    factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True


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
        if self.scaling:
            self._check_scaling(self.scaling)

    @property
    def has_one_base(self) -> bool:
        """Whether a position turns the same in every context: inv_freq() says how."""
        return self.scaling is None or self.scaling.kind != "dynamic"

    def inv_freq(self, max_len: int) -> list[float]:
        """Return the frequencies, radians a position, [dim / 2], scaling applied.

        max_len: the longest sequence that will be served. Without one base: those of sequences
        that are not longer than the trained context.
        """
        inv_freq = [float(self.theta ** (-2 * i / self.dim)) for i in range(self.dim // 2)]
        scaling = self.scaling
        if scaling is None:
            return inv_freq
        factors = scaling.factors
        if scaling.kind == "longrope" and max_len > scaling.original_max_position_embeddings:
            factors = scaling.long_factors
        if factors:
            inv_freq = [freq / by for freq, by in zip(inv_freq, factors, strict=True)]
        match scaling.kind:
            case "linear":
                return [freq / scaling.factor for freq in inv_freq]
            case "yarn":
                return self._yarn(inv_freq, scaling)
            case "llama3":
                return [_llama3(freq, scaling) for freq in inv_freq]
            case "dynamic" | "longrope" | "factors":
                return inv_freq

    def theta_at(self, position: int) -> float:
        """Return the base by which a position turns."""
        scaling = self.scaling
        if scaling is None or scaling.kind != "dynamic":
            return self.theta
        length = max(1.0, (position + 1) / scaling.original_max_position_embeddings)
        stretched = scaling.factor * length - (scaling.factor - 1)
        return float(self.theta * stretched ** (self.dim / (self.dim - 2)))

    def _yarn(self, inv_freq: list[float], scaling: RopeScaling) -> list[float]:
        low, high = self._turning(scaling.beta_fast), self._turning(scaling.beta_slow)
        if scaling.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dim - 1)
        width = (high - low) or 0.001
        scaled = []
        for index, freq in enumerate(inv_freq):
            share = min(max((index - low) / width, 0.0), 1.0)
            scaled.append(freq * (1 - share) + freq / scaling.factor * share)
        return scaled

    def _turning(self, num_turns: float) -> float:
        """Return the index of the frequency that turns so often in the trained context."""
        assert self.scaling
        turns = self.scaling.original_max_position_embeddings / (num_turns * 2 * math.pi)
        return self.dim * math.log(turns) / (2 * math.log(self.theta))

    def _check_scaling(self, scaling: RopeScaling) -> None:
        for factors in (scaling.factors, scaling.long_factors):
            if factors and len(factors) != self.dim // 2:
                raise ModelError(
                    f"{len(factors)} rotary factors for {self.dim} rotated dimensions; "
                    f"{self.dim // 2} are needed"
                )
        if scaling.kind in ("dynamic", "yarn", "longrope", "llama3"):
            original = scaling.original_max_position_embeddings
            if original <= 0:
                raise ModelError(f"the original context must be above 0, is {original}")
        if scaling.kind == "yarn" and (self.theta == 1 or scaling.beta_fast < scaling.beta_slow):
            raise ModelError("yarn needs a rope_theta that is not 1, and beta_fast above beta_slow")
        if scaling.kind == "dynamic" and (self.dim < 4 or scaling.factor < 1):
            raise ModelError("dynamic rope scaling needs 4 dimensions and a factor of 1, at least")


def mscale(factor: float, by: float = 1.0) -> float:
    """Return what YaRN multiplies attention by where positions are stretched by a factor."""
    return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0


def _llama3(freq: float, scaling: RopeScaling) -> float:
    # Turns that the frequency makes within the context it was trained on decide its share.
    num_turns = scaling.original_max_position_embeddings * freq / (2 * math.pi)
    share = (num_turns - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    kept = min(max(share, 0.0), 1.0)
    return kept * freq + (1 - kept) * freq / scaling.factor
