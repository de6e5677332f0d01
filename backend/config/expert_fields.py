"""Reads mixtures of experts from a model's fields: how many, how chosen, in which layers."""

from typing import Literal

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.spec import Experts, GateClamp


def read_experts(
    fields: Fields,
    width: int,
    *,
    renormalise: bool,
    top_k: int = 2,
    shared_width: int = 0,
    shared_gate: bool = False,
    clamp: GateClamp | None = None,
    has_bias: bool = False,
    router_bias: bool = False,
    router: Literal["softmax", "sigmoid"] = "softmax",
    has_correction: bool = False,
) -> Experts:
    """Return the experts of a layer, of a width. Raises ModelError.

    renormalise: whether the weights of those chosen sum to 1. top_k: how many a config.json that
    does not say chooses. The others are of Experts.
    """
    num = fields.integer("num_experts")
    chosen = fields.integer("num_experts_per_tok", None if fields.kind == "gguf" else top_k)
    if num <= 0:
        raise ModelError(f"{fields.label('num_experts')} must be above 0, is {num}")
    if not 0 < chosen <= num:
        raise ModelError(
            f"{fields.label('num_experts_per_tok')} is {chosen}, the model has {num} experts"
        )
    return Experts(
        num,
        chosen,
        width,
        renormalise=renormalise,
        shared_width=shared_width,
        shared_gate=shared_gate,
        clamp=clamp,
        has_bias=has_bias,
        router_bias=router_bias,
        router=router,
        has_correction=has_correction,
    )


def expert_width(fields: Fields) -> int:
    """Return the columns of an expert of a GGUF file.

    One that does not say shares out the MLP's over the experts that a token goes to, as llama.cpp
    has it.
    """
    if "moe_intermediate_size" in fields:
        return fields.integer("moe_intermediate_size")
    return fields.integer("intermediate_size") // max(fields.integer("num_experts_per_tok"), 1)


def are_sparse(fields: Fields, num_layers: int) -> list[bool]:
    """Return of each layer whether it has experts, as Qwen's config.json says it.

    GGUF files have experts in every layer. Raises ModelError.
    """
    step = fields.integer("decoder_sparse_step", 1)
    dense = fields.raw("mlp_only_layers", [])
    if step <= 0:
        raise ModelError(f"decoder_sparse_step must be above 0, is {step}")
    if not isinstance(dense, list) or not all(type(index) is int for index in dense):
        raise ModelError(f"mlp_only_layers is {dense!r}, not a list of layers' numbers")
    return [(index + 1) % step == 0 and index not in dense for index in range(num_layers)]
