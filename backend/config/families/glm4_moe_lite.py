"""GLM-4.7-Flash (Z.ai 2026): compressed keys and values as DeepSeek V3 has them."""

from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import LATENT_PARTS, read_latent, read_routed_experts
from backend.config.sizes import num_layers
from backend.config.spec import MLP, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    fields.must_be("topk_method", "noaux_tc", "only noaux_tc is supported")
    # A layer that predicts a further token stands behind the others, and is left out.
    fields.harmless(["num_nextn_predict_layers"])
    attention = read_latent(fields)
    experts = read_routed_experts(fields, 1536, top_k=4)
    mlp = MLP(fields.integer("intermediate_size", 10240))
    layers = tuple(Layer(attention, experts if sparse else mlp) for sparse in _sparse(fields))
    # The norms inside of attention have transformers' 1e-6, whatever this says.
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-5)))


def _sparse(fields: Fields) -> list[bool]:
    """Return of each layer whether it has experts."""
    count = num_layers(fields)
    types = fields.raw("mlp_layer_types", ["dense", *["sparse"] * (count - 1)])
    if not isinstance(types, list) or len(types) != count or set(types) - {"dense", "sparse"}:
        raise ModelError(f"mlp_layer_types is no list of {count}, each dense or sparse")
    dense = types.count("dense")
    fields.must_be("first_k_dense_replace", dense, f"mlp_layer_types says dense of {dense} layers")
    return [kind == "sparse" for kind in types]


FAMILY = Family(
    name="glm4_moe_lite",
    huggingface=("Glm4MoeLiteForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(LATENT_PARTS, fused=FUSED_EXPERTS, ignored=r"model\.layers\.47\..*"),
    gguf_names=gguf_names(),
    aliases={"n_routed_experts": "num_experts"},
    defaults={
        "q_lora_rank": 768,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
        "routed_scaling_factor": 1.8,
        "max_position_embeddings": 202752,
    },
    models="GLM-4.7-Flash",
)
