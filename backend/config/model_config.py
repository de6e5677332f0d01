"""What a model is: its sizes, its rotary frequencies, its special ids.

Owns ModelConfig, whichever file it came from; load.py reads it. Knows no torch, so that the
gateway can import it.
"""

import math
from typing import Literal

import msgspec


class ModelError(ValueError):
    """A model file cannot be served. The message is for the operator, one to three lines."""


class RopeScaling(msgspec.Struct, frozen=True):
    """How rotary frequencies are stretched beyond the trained context.

    linear: every frequency divided by `factor`.
    llama3: low frequencies divided by `factor`, high ones kept, a ramp between.
    factors: one divisor a frequency, [head_dim / 2]; how GGUF files store llama3 scaling.
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


class ModelConfig(msgspec.Struct, frozen=True):
    """One model as the engine sees it. Raises ModelError where the numbers contradict each other.

    architecture: key of the registry in `backend.models.registry`.
    name: what /v1/models shows unless the operator chose another.
    eos_token_ids, bos_token_id: only ids below vocab_size, whatever the file says: the others have
    no embedding and no logit.
    stored_dtype: what the file mostly holds ("Q4_1", "bfloat16"), for the start-up line.
    """

    architecture: str
    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_model_len: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    stored_dtype: str

    def __post_init__(self) -> None:
        for field in _POSITIVE:
            if getattr(self, field) <= 0:
                raise ModelError(f"{field} must be above 0, is {getattr(self, field)}")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ModelError(f"head_dim must be even for rotary embeddings, is {self.head_dim}")
        scaling = self.rope_scaling
        if scaling and scaling.kind == "factors" and len(scaling.factors) != self.head_dim // 2:
            raise ModelError(
                f"{len(scaling.factors)} rotary factors for head_dim {self.head_dim}; "
                f"{self.head_dim // 2} are needed"
            )

        known = tuple(
            token_id for token_id in self.eos_token_ids if 0 <= token_id < self.vocab_size
        )
        msgspec.structs.force_setattr(self, "eos_token_ids", known)
        if self.bos_token_id is not None and not 0 <= self.bos_token_id < self.vocab_size:
            msgspec.structs.force_setattr(self, "bos_token_id", None)

    def inv_freq(self) -> list[float]:
        """Return the rotary frequencies, radians a position, [head_dim / 2], scaling applied."""
        dim = self.head_dim
        inv_freq = [float(self.rope_theta ** (-2 * i / dim)) for i in range(dim // 2)]
        return self.rope_scaling.apply(inv_freq) if self.rope_scaling else inv_freq


_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "max_model_len",
    "rms_norm_eps",
    "rope_theta",
)
