"""Whether linear layers have biases, out of a file's fields or its tensors."""

from backend.config.fields import Fields


def has_bias(fields: Fields, flag: str, *gguf_tensors: str) -> bool:
    """Whether there are biases: config.json has a flag, GGUF files say it by having them.

    gguf_tensors: llama.cpp's names of the layers, of which one is looked for.
    """
    if fields.kind == "gguf":
        return any(f"blk.0.{name}.bias" in fields.tensors for name in gguf_tensors)
    return fields.flag(flag)


def has_qkv_bias(fields: Fields) -> bool:
    """Whether queries, keys and values have biases: llama.cpp adds them where a file has them."""
    return has_bias(fields, "attention_bias", "attn_q", "attn_qkv")


def has_out_bias(fields: Fields) -> bool:
    """Whether what attention gives has a bias. config.json has one flag for both."""
    return has_bias(fields, "attention_bias", "attn_output")
