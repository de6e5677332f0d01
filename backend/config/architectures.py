"""Which architectures can be served, under the names that model files give them.

Owns the names only: the classes are in `backend.models.registry.ARCHITECTURES`, whose keys are the
values here (a test holds them equal), kept apart because they bring torch. Read by `huggingface`
and `gguf`.
"""

# "architectures" of config.json -> key of the registry.
HF_ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama"}

# "general.architecture" of a GGUF file -> key of the registry.
GGUF_ARCHITECTURES = {"llama": "llama"}
