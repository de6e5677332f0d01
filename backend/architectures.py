"""Which architectures can be served, under the names that model files give them.

Owns the names only: the classes are `backend.models.ARCHITECTURES`, whose keys are the values here
(a test holds them equal), kept apart because they bring torch. Read by `hf_config`, `gguf_config`.
"""

# "architectures" of config.json -> key of the registry.
HF_ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama"}

# "general.architecture" of a GGUF file -> key of the registry.
GGUF_ARCHITECTURES = {"llama": "llama"}
