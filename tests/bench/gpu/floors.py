"""The least that a decode step must read, and how long that takes at a bandwidth."""

from dataclasses import dataclass

from backend.config.model_config import ModelConfig
from backend.config.tensors import EMBEDDING, tensors_of
from backend.placement.memory import DTYPE_BYTES, kv_bytes_per_head


@dataclass(frozen=True, slots=True)
class Floor:
    """weight_bytes: of all matrices that a step multiplies by, as they are kept. kv_token_bytes: of
    one token of context, in all layers."""

    weight_bytes: int
    kv_token_bytes: int

    @classmethod
    def of(
        cls, config: ModelConfig, weight_bytes: int, dtype: str, kv_dtype: str = "auto"
    ) -> "Floor":
        """weight_bytes: what the model came to hold. Of an embedding that is no head as well a step
        looks up a few rows. dtype: of the arithmetic; kv_dtype: of the cache, "auto" for the same.
        """
        width = config.vocab_size * tensors_of(config)[EMBEDDING].shape[1]
        looked_up = 0 if config.tie_word_embeddings else width * DTYPE_BYTES[dtype]
        kept_as = dtype if kv_dtype == "auto" else kv_dtype
        kv = sum(
            config.num_kv_heads_of(each) * kv_bytes_per_head(config.head_dim_of(each), kept_as)
            for each in config.attentions
        )
        return cls(weight_bytes - looked_up, kv)

    def step_bytes(self, batch: int, context: int) -> int:
        """Return what a step of so many sequences with so much context reads, once each."""
        return self.weight_bytes + batch * context * self.kv_token_bytes

    def share(self, batch: int, context: int, step_s: float, bytes_s: float) -> float:
        """Return the part of a step's time that reading would take at a bandwidth."""
        return self.step_bytes(batch, context) / bytes_s / step_s
