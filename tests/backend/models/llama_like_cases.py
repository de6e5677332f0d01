"""Tiny models of llama, mistral, qwen, phi3, smollm3 and olmo."""

from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, rope_freqs

_LLAMA = GGUFTwin("LLAMA", is_interleaved=True, extra=rope_freqs)

LLAMA_LIKE = {
    "llama": FamilyCase("LlamaForCausalLM", {"tie_word_embeddings": True}, twin=_LLAMA),
    "llama, biases": FamilyCase(
        "LlamaForCausalLM",
        {"head_dim": 16, "attention_bias": True, "mlp_bias": True},
        twin=_LLAMA,
    ),
    "qwen2": FamilyCase("Qwen2ForCausalLM", twin=GGUFTwin("QWEN2")),
}
