"""Which tensors a model has, how large they are, and how ranks share each. No torch, no file.

Names here are ours, Hugging Face's for a Llama where it has the tensor:

    model.embed_tokens  model.embed_positions  model.project_in  model.project_out
    model.layers.I.input_layernorm             norm before attention or a state mixer, or in its
                                               only place
    model.layers.I.self_attn.q_proj k_proj v_proj gate_proj o_proj q_norm k_norm sinks
                     q_a_proj q_a_norm q_b_proj kv_a_proj kv_a_norm kv_b_proj, or k_b_proj v_b_proj
    model.layers.I.attention_output_norm       norm of what attention gives
    model.layers.I.post_attention_layernorm    norm before the MLP, or in its only place; none where
                                               attention and MLP share one
    model.layers.I.short_conv.b_proj c_proj x_proj conv out_proj
    model.layers.I.linear_attn.q_proj k_proj v_proj z_proj b_proj a_proj q_conv k_conv v_conv
                                               rates dt norm out_proj
    model.layers.I.mamba.gate_proj x_proj b_proj c_proj step_proj x_conv b_conv c_conv
                         rates skips steps norm out_proj
    model.layers.I.mlp.gate_proj up_proj down_proj
    model.layers.I.mlp.router  mlp.router_correction  mlp.experts.E.gate_proj up_proj down_proj
    model.layers.I.mlp.shared.gate_proj up_proj down_proj  mlp.shared_gate
    model.layers.I.mlp.router_norm  mlp.expert_scales  mlp.latent_in  mlp.latent_out
    model.layers.I.mlp_output_norm             norm of what the MLP gives, and experts beside it
    model.layers.I.mlp_dense_norm experts_input_norm experts_output_norm
                                               of an MLP that has experts beside it, and of these
    model.layers.I.per_layer.gate proj norm    of what the layer is told of each token
    model.layers.I.layer_scalar
    model.embed_tokens_per_layer  model.per_layer_projection  model.per_layer_norm
    model.norm  lm_head
    model.embed_token_types  model.embedding_norm  model.relative_bias
                                               of encoders
    pooler.dense  pooler.norm  classifier      of models that score

of an encoder-decoder besides

    encoder.layers.I.input_layernorm self_attn.q_proj .. post_attention_layernorm mlp.up_proj ..
    encoder.norm
    encoder.layers.I.self_attn.relative_bias   of each bucket and head; shared ones in layer 0 alone
    model.layers.I.self_attn.relative_bias
    model.layers.I.cross_attention_layernorm
    model.layers.I.cross_attn.q_proj k_proj v_proj o_proj

each with .weight, .bias or both. `families` and `sources` say what files call them.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from backend.config.model_config import ModelConfig
from backend.config.spec import (
    MLP,
    Attention,
    Classifier,
    DecoderSpec,
    EncoderSpec,
    Experts,
    Latent,
    Layer,
    Norm,
    PerLayerInput,
    PromptEncoder,
)
from backend.config.state_tensors import state_tensors
from backend.config.tensor_info import Cut as Cut
from backend.config.tensor_info import TensorInfo as TensorInfo
from backend.config.tensor_info import linear_tensors

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
PER_LAYER_EMBEDDING = "model.embed_tokens_per_layer.weight"
LAYER_PREFIX = "model.layers."
ENCODER_LAYER_PREFIX = "encoder.layers."


def tensors_of(config: ModelConfig) -> dict[str, TensorInfo]:
    """Return name -> TensorInfo of every tensor of a model."""
    return dict(config.foreign.tensors if config.foreign else _tensors(config))


class TensorKind(NamedTuple):
    """A tensor, and how many of a model are like it: one of a layer's experts stands for all, and
    one layer for all of its kind."""

    name: str
    info: TensorInfo
    num_alike: int = 1


def kinds_of(config: ModelConfig, *, alike_layers: bool = False) -> Iterator[TensorKind]:
    """Return what tensors_of() does, but of a layer's experts the first: a hundredth of the time,
    where there are many. alike_layers: and of layers that compute the same the first, of a decoder
    that has nothing else for each layer."""
    layers = config.spec.layers
    alike = dict.fromkeys(range(len(layers)), 1)
    is_plain = isinstance(config.spec, DecoderSpec) and not (
        config.spec.encoder or config.spec.per_layer
    )
    if alike_layers and is_plain:
        alike = {layers.index(layer): count for layer, count in Counter(layers).items()}
    for name, info in _tensors(config, alike):
        num_alike = 1
        if name.startswith(LAYER_PREFIX):
            index = int(name.removeprefix(LAYER_PREFIX).partition(".")[0])
            num_alike = alike[index]
            experts = layers[index].experts
            if info.expert is not None and experts is not None:
                num_alike *= experts.num
        yield TensorKind(name, info, num_alike)


def _tensors(
    config: ModelConfig, shown: Collection[int] | None = None
) -> Iterator[tuple[str, TensorInfo]]:
    """shown: of which layers, and of these the first experts alone; None: of all, and all."""
    spec, hidden, width = config.spec, config.hidden_size, config.embedding_width
    if isinstance(spec, EncoderSpec):
        yield from _encoder(config, spec)
        return
    yield EMBEDDING, TensorInfo((config.vocab_size, width))
    if spec.positions:
        yield "model.embed_positions.weight", TensorInfo((spec.positions.rows, hidden))
    if spec.token_types:
        yield "model.embed_token_types.weight", TensorInfo((spec.token_types, hidden))
    if spec.embedding_norm:
        yield from _norm("model.embedding_norm", hidden, spec.embedding_norm)
    if width != hidden:
        yield "model.project_in.weight", TensorInfo((hidden, width))
        yield "model.project_out.weight", TensorInfo((width, hidden))
    for index, layer in enumerate(spec.layers):
        if shown is None or index in shown:
            for name, info in _layer(config, layer, all_experts=shown is None):
                yield f"{LAYER_PREFIX}{index}.{name}", info
    if spec.per_layer:
        yield from _per_layer(config, spec.per_layer)
    if spec.encoder:
        yield from _encoder_decoder(config, spec.encoder)
    if spec.has_final_norm:
        yield from _norm("model.norm", hidden, spec.norm)
    if spec.classifier:
        yield from _classifier(config, spec.classifier)
    if not config.has_head:
        return
    if not config.tie_word_embeddings:
        yield HEAD, TensorInfo((config.vocab_size, width), Cut.VOCAB_ROWS)
    if spec.head_bias:
        yield "lm_head.bias", TensorInfo((config.vocab_size,), Cut.VOCAB_ROWS)


def _encoder(config: ModelConfig, spec: EncoderSpec) -> Iterator[tuple[str, TensorInfo]]:
    hidden = config.hidden_size
    yield EMBEDDING, TensorInfo((config.vocab_size, hidden))
    if spec.positions:
        yield "model.embed_positions.weight", TensorInfo((spec.positions.rows, hidden))
    if spec.token_types:
        yield "model.embed_token_types.weight", TensorInfo((spec.token_types, hidden))
    for name, info in _norm("model.embedding_norm", hidden, spec.norm):
        yield name, info._replace(is_wide=True)
    if spec.relative_bias:
        shape = (spec.relative_bias.rows, config.num_heads)
        yield "model.relative_bias.weight", TensorInfo(shape)
    for index, layer in enumerate(spec.layers):
        for name, info in _layer(config, layer):
            # A vector's direction is all that counts of it. Rounded to bfloat16 the norms' weights
            # turned MiniLM's by a third of all that bfloat16 did.
            yield f"{LAYER_PREFIX}{index}.{name}", info._replace(is_wide="norm" in name)
    if spec.classifier:
        yield from _classifier(config, spec.classifier)


def _classifier(config: ModelConfig, head: Classifier) -> Iterator[tuple[str, TensorInfo]]:
    hidden, tensors = config.hidden_size, list[tuple[str, TensorInfo]]()
    if head.activation:
        tensors += linear_tensors("pooler.dense", (hidden, hidden), Cut.WHOLE, head.dense_bias)
    if head.has_norm:
        tensors += _norm("pooler.norm", hidden, config.spec.norm)
    tensors += linear_tensors("classifier", (1, hidden), Cut.WHOLE, head.has_bias)
    for name, info in tensors:
        yield name, info._replace(is_wide=True)


def _layer(
    config: ModelConfig, layer: Layer, *, all_experts: bool = True
) -> Iterator[tuple[str, TensorInfo]]:
    norm, hidden = config.spec.norm, config.hidden_size
    for part, before, after in (
        (layer.attention or layer.state, "input_layernorm", "attention_output_norm"),
        (layer.mlp, "post_attention_layernorm", "mlp_output_norm"),
    ):
        if part is None:
            continue
        is_shared = layer.norms == "parallel" and part is layer.mlp
        is_left_out = part is not layer.mlp and not layer.is_input_normed
        if layer.norms != "after" and not is_shared and not is_left_out:
            yield from _norm(before, hidden, norm)
        if layer.norms in ("after", "around"):
            yield from _norm(after, hidden, norm)
    if layer.attention is not None:
        yield from _attention(config, layer.attention)
    if layer.state is not None:
        yield from state_tensors(layer.state, hidden)
    if isinstance(layer.mlp, MLP):
        yield from _mlp("mlp", layer.mlp, hidden)
    if layer.experts:
        yield from _experts(layer.experts, hidden, layer.experts.num if all_experts else 1)
    if layer.beside:
        for name in ("mlp_dense_norm", "experts_input_norm", "experts_output_norm"):
            yield from _norm(name, hidden, norm)
    if layer.has_scalar:
        yield "layer_scalar.weight", TensorInfo((1,))


def _per_layer(config: ModelConfig, told: PerLayerInput) -> Iterator[tuple[str, TensorInfo]]:
    """Return what is told of tokens. The table is large: each rank has some tokens' rows."""
    hidden, norm = config.hidden_size, config.spec.norm
    width = config.num_layers * told.width
    yield PER_LAYER_EMBEDDING, TensorInfo((config.vocab_size, width), Cut.VOCAB_ROWS)
    yield "model.per_layer_projection.weight", TensorInfo((width, hidden))
    yield from _norm("model.per_layer_norm", told.width, norm)
    for index in range(config.num_layers):
        prefix = f"{LAYER_PREFIX}{index}.per_layer"
        yield f"{prefix}.gate.weight", TensorInfo((told.width, hidden))
        yield f"{prefix}.proj.weight", TensorInfo((hidden, told.width))
        yield from _norm(f"{prefix}.norm", hidden, norm)


def _encoder_decoder(
    config: ModelConfig, encoder: PromptEncoder
) -> Iterator[tuple[str, TensorInfo]]:
    """Return what an encoder-decoder has beside its decoder's own layers."""
    hidden, norm = config.hidden_size, config.spec.norm
    bias = TensorInfo((encoder.bias.num_buckets, config.num_heads))
    for index, layer in enumerate(encoder.layers):
        for name, info in _layer(config, layer):
            yield f"{ENCODER_LAYER_PREFIX}{index}.{name}", info
    yield from _norm("encoder.norm", hidden, norm)
    for prefix, count in (
        (ENCODER_LAYER_PREFIX, len(encoder.layers)),
        (LAYER_PREFIX, config.num_layers),
    ):
        for index in range(1 if encoder.bias.is_shared else count):
            yield f"{prefix}{index}.self_attn.relative_bias.weight", bias
    for index, layer in enumerate(config.spec.layers):
        assert layer.attention is not None, "no encoder-decoder has other layers"
        for name, info in _attention(config, layer.attention):
            cross = name.replace("self_attn", "cross_attn")
            yield f"{LAYER_PREFIX}{index}.{cross}", info
        yield from _norm(f"{LAYER_PREFIX}{index}.cross_attention_layernorm", hidden, norm)


def _attention(config: ModelConfig, attention: Attention) -> Iterator[tuple[str, TensorInfo]]:
    if attention.latent:
        for name, info in _latent(config, attention, attention.latent):
            yield f"self_attn.{name}", info
        return
    for name, info in _of_heads(config, attention):
        own = info._replace(head_dim=attention.head_dim, num_kv_heads=attention.num_kv_heads)
        yield f"self_attn.{name}", own


def _latent(
    config: ModelConfig, attention: Attention, latent: Latent
) -> Iterator[tuple[str, TensorInfo]]:
    """Return what compresses and expands keys and values; ranks share what is of heads."""
    hidden, heads, rank = config.hidden_size, config.num_heads, latent.kv_rank
    query = latent.nope_dim + latent.rope_dim
    if latent.q_rank:
        shape = (latent.q_rank, hidden)
        yield from linear_tensors("q_a_proj", shape, Cut.WHOLE, attention.qkv_bias)
        yield "q_a_norm.weight", TensorInfo((latent.q_rank,))
    name = "q_b_proj" if latent.q_rank else "q_proj"
    shape = (heads * query, latent.q_rank or hidden)
    yield f"{name}.weight", TensorInfo(shape, Cut.QUERY_ROWS, head_dim=query)
    yield from linear_tensors("kv_a_proj", (latent.width, hidden), Cut.WHOLE, attention.qkv_bias)
    yield "kv_a_norm.weight", TensorInfo((rank,))
    if latent.is_split:
        keys, values = (heads, rank, latent.nope_dim), (heads, latent.v_dim, rank)
        for name, size in (("k_b_proj", keys), ("v_b_proj", values)):
            yield f"{name}.weight", TensorInfo(size, Cut.QUERY_ROWS, is_plain=True, head_dim=1)
    else:
        both = latent.nope_dim + latent.v_dim
        yield (
            "kv_b_proj.weight",
            TensorInfo((heads * both, rank), Cut.QUERY_ROWS, is_plain=True, head_dim=both),
        )
    out = (hidden, heads * latent.v_dim)
    for name, info in linear_tensors("o_proj", out, Cut.QUERY_COLUMNS, attention.out_bias):
        yield name, info._replace(head_dim=latent.v_dim)


def _of_heads(config: ModelConfig, attention: Attention) -> Iterator[tuple[str, TensorInfo]]:
    hidden, dim = config.hidden_size, config.head_dim_of(attention)
    query, kv = config.num_heads * dim, config.num_kv_heads_of(attention) * dim
    has_keys = attention.shares_kv_of is None
    yield from linear_tensors("q_proj", (query, hidden), Cut.QUERY_ROWS, attention.qkv_bias)
    if has_keys:
        yield from linear_tensors("k_proj", (kv, hidden), Cut.KV_ROWS, attention.qkv_bias)
    if has_keys and not attention.k_eq_v:
        yield from linear_tensors("v_proj", (kv, hidden), Cut.KV_ROWS, attention.qkv_bias)
    if attention.is_gated:
        yield from linear_tensors("gate_proj", (query, hidden), Cut.QUERY_ROWS, attention.qkv_bias)
    yield from linear_tensors("o_proj", (hidden, query), Cut.QUERY_COLUMNS, attention.out_bias)
    for name, size, cut in (("q_norm", query, Cut.QUERY_ROWS), ("k_norm", kv, Cut.KV_ROWS)):
        if name == "k_norm" and not has_keys:
            continue
        if attention.qk_norm == "head":
            yield f"{name}.weight", TensorInfo((dim,))
        elif attention.qk_norm in ("each", "all"):
            yield f"{name}.weight", TensorInfo((size,), cut)
    if attention.sinks:
        yield "sinks.weight", TensorInfo((config.num_heads,), is_wide=True)


def _mlp(prefix: str, mlp: MLP, hidden: int) -> Iterator[tuple[str, TensorInfo]]:
    for name in ("gate_proj", "up_proj") if mlp.is_gated else ("up_proj",):
        yield from linear_tensors(
            f"{prefix}.{name}", (mlp.width, hidden), Cut.MLP_ROWS, mlp.has_bias
        )
    yield from linear_tensors(
        f"{prefix}.down_proj",
        (hidden, mlp.width),
        Cut.MLP_COLUMNS,
        mlp.has_bias or mlp.has_out_bias,
    )


def _experts(experts: Experts, hidden: int, shown: int) -> Iterator[tuple[str, TensorInfo]]:
    """shown: how many of them."""
    yield from linear_tensors("mlp.router", (experts.num, hidden), Cut.WHOLE, experts.router_bias)
    if experts.router_eps:
        yield "mlp.router_norm.weight", TensorInfo((hidden,))
    if experts.has_scales:
        yield "mlp.expert_scales.weight", TensorInfo((experts.num,), is_wide=True)
    if experts.has_correction:
        yield "mlp.router_correction.bias", TensorInfo((experts.num,), is_wide=True)
    mlp = MLP(experts.width, is_gated=experts.is_gated, has_bias=experts.has_bias)
    if width := experts.latent_width:
        yield "mlp.latent_in.weight", TensorInfo((width, hidden))
        yield "mlp.latent_out.weight", TensorInfo((hidden, width))
    for index in range(shown):
        for name, info in _mlp(f"mlp.experts.{index}", mlp, experts.latent_width or hidden):
            yield name, info._replace(expert=index)
    if experts.shared_width:
        shared = MLP(experts.shared_width, is_gated=experts.is_gated)
        yield from _mlp("mlp.shared", shared, hidden)
    if experts.shared_gate:
        yield "mlp.shared_gate.weight", TensorInfo((hidden,))


def _norm(name: str, width: int, norm: Norm) -> Iterator[tuple[str, TensorInfo]]:
    if norm.has_weight:
        yield f"{name}.weight", TensorInfo((width,))
    if norm.has_bias:
        yield f"{name}.bias", TensorInfo((width,))
