"""Models for tests of plans: small ones whose figures can be worked out by hand."""

from typing import Any

from backend.config.huggingface import config_of_fields
from backend.placement.device_profile import DeviceProfile, MultiplyRate
from backend.placement.known_weights import DescribedWeights
from backend.placement.served_model import ServedModel
from backend.settings import EngineSettings

# 2 layers of 64 hidden units, 4 heads that share 2 keys, an MLP of 128, 256 words: 106,816 numbers.
FIELDS: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "dtype": "bfloat16",
}
# Nothing but reading weights takes time: 1 MB/s.
READER = DeviceProfile(
    name="reader",
    kind="cuda",
    memory_bytes=1 << 24,
    read_bandwidth=1e6,
    attention_bandwidth=1e30,
    attention_rate=1e30,
    multiply={"bf16": MultiplyRate(1e30)},
)


def served(fields: dict[str, Any] | None = None, **settings: Any) -> ServedModel:
    """Return a tiny Llama, changed, as a GPU would serve it."""
    values = FIELDS | (fields or {})
    config = config_of_fields(values, "tiny")
    # Its memory has no room for graphs.
    usual: dict[str, Any] = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "enforce_eager": True}
    told = EngineSettings(**{**usual, **settings})
    return ServedModel(config, DescribedWeights(values, config), "bfloat16", "torch", told)
