"""Reads Mamba-2 layers from a model's fields; and what files call the tensors of these."""

import math

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.spec import Mamba2, PartScales

UNSCALED = PartScales()
_IN = tuple(f"mamba.{part}_proj" for part in ("gate", "x", "b", "c", "step"))
_CONVS = tuple(f"mamba.{part}_conv" for part in ("x", "b", "c"))

# Of a config.json: sums of chunks are rounded otherwise, no more; and how a cache is kept.
HARMLESS = frozenset({"mamba_chunk_size", "chunk_size", "num_logits_to_keep"})
MAMBA, FULL = "linear_attention", "full_attention"
# What older files call them.
OLDER = {"mamba": MAMBA, "attention": FULL}

GGUF_PARTS: dict[str, str | tuple[str, ...]] = {
    "mamba.rates": "ssm_a",
    "mamba.skips": "ssm_d",
    "mamba.steps": "ssm_dt",
    "mamba.norm": "ssm_norm",
    "mamba.out_proj": "ssm_out",
}
GGUF_FUSED: dict[str, tuple[str, ...]] = {"ssm_in": _IN, "ssm_conv1d": _CONVS}


def hf_parts(name: str = "mamba") -> dict[str, str | tuple[str, ...]]:
    """Return what directories call a layer's parts. name: of the mixer."""
    return {
        "mamba.rates": f"{name}.A_log",
        "mamba.skips": f"{name}.D",
        "mamba.steps": f"{name}.dt",
        "mamba.norm": f"{name}.norm",
        "mamba.out_proj": f"{name}.out_proj",
    }


def hf_fused(name: str = "mamba") -> dict[str, tuple[str, ...]]:
    """Return what several of a layer's parts lie in, one below the other."""
    return {f"{name}.in_proj": _IN, f"{name}.conv1d": _CONVS}


def read_mamba(
    fields: Fields, *, width: int = 0, scales: PartScales = UNSCALED, out_bias: str = ""
) -> Mamba2:
    """Return the layers of a config.json whose fields begin with mamba_. Raises ModelError.

    width: of x; 0: mamba_expand times hidden_size. out_bias: the field that says whether the way
    out has a bias; mamba_proj_bias says it of both ways where none is named.
    """
    expanded = fields.integer("mamba_expand", 2) * fields.integer("hidden_size")
    width, num_heads = width or expanded, fields.integer("mamba_n_heads", 128)
    head_dim = fields.raw("mamba_d_head", "auto")
    if num_heads <= 0 or width % num_heads or head_dim not in ("auto", width // num_heads):
        raise ModelError(
            f"mamba_n_heads is {num_heads} and mamba_d_head {head_dim!r}: heads together must have "
            f"{width} numbers"
        )
    in_bias = fields.flag("mamba_proj_bias")
    steps_from, steps_to = step_limits(fields)
    return Mamba2(
        num_heads,
        width // num_heads,
        fields.integer("mamba_n_groups", 1),
        fields.integer("mamba_d_state", 256),
        fields.integer("mamba_d_conv", 4),
        fields.flag("mamba_conv_bias", True),
        in_bias,
        fields.flag(out_bias) if out_bias else in_bias,
        steps_from=steps_from,
        steps_to=steps_to,
        scales=scales,
    )


def read_gguf_mamba(fields: Fields) -> Mamba2:
    """Return the layers of a GGUF file, as llama.cpp runs them. Raises ModelError."""
    num_heads, width = fields.integer("ssm.time_step_rank"), fields.integer("ssm.inner_size")
    if num_heads <= 0 or width % num_heads:
        raise ModelError(
            f"{fields.label('ssm.inner_size')} {width} cannot be shared out over {num_heads} heads"
        )
    names = fields.tensors
    if any(name.endswith((".ssm_in.bias", ".ssm_out.bias")) for name in names):
        raise ModelError("biases of ssm_in and ssm_out are not read by llama.cpp, nor here")
    has_norm = any(name.endswith(".ssm_norm.weight") for name in names)
    return Mamba2(
        num_heads,
        width // num_heads,
        fields.integer("ssm.group_count"),
        fields.integer("ssm.state_size"),
        fields.integer("ssm.conv_kernel"),
        has_conv_bias=any(name.endswith(".ssm_conv1d.bias") for name in names),
        norm="behind_gate" if has_norm else "none",
        has_log_rates=False,
    )


def step_limits(fields: Fields) -> tuple[float, float]:
    """Return the least and the most that a step may be. Raises ModelError.

    transformers 5 writes an infinite number as an object of one.
    """
    found = fields.raw("time_step_limit", [0.0, math.inf])
    values = found if isinstance(found, list) else []
    numbers = [
        float(value["__float__"]) if isinstance(value, dict) and "__float__" in value else value
        for value in values
    ]
    if len(numbers) != 2 or not all(isinstance(number, int | float) for number in numbers):
        raise ModelError(f"time_step_limit is {found!r}, not two numbers")
    return float(numbers[0]), float(numbers[1])


def of_layers(fields: Fields, name: str, count: int) -> list[int]:
    """Return of each layer a number that GGUF files say once, or in a list. Raises ModelError."""
    found = fields.raw(name, 0)
    numbers = found if isinstance(found, list) else [found] * count
    if len(numbers) < count or not all(type(number) is int for number in numbers):
        raise ModelError(f"{fields.label(name)} is no list of {count} numbers, one for each layer")
    return numbers


def say_kv_heads(fields: Fields, of_each: list[int]) -> None:
    """Say how many KV heads those layers have that attend. Raises ModelError if they differ."""
    counts = sorted({count for count in of_each if count})
    if len(counts) > 1:
        raise ModelError(
            f"{fields.label('num_key_value_heads')}: layers of {counts[0]} and of {counts[1]} KV "
            "heads in one model are not supported"
        )
    fields.add(
        "num_key_value_heads", counts[0] if counts else fields.integer("num_attention_heads")
    )
