"""What a model computes, layer by layer: norms, attention, MLP, residuals. Data alone, no torch.

A family (config/families) makes one DecoderSpec or EncoderSpec of a file's fields;
models/decoder.py and models/encoder.py run them, and tensors.py says which weights they need.
"""

import math
from typing import Literal

import msgspec

from backend.config.errors import ModelError
from backend.config.rope import Rope

# gelu: by the error function; gelu_tanh: its approximation by tanh; relu2: the square of relu.
Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]
# Where a layer's norms stand:
#   before     x + f(norm(x))                 Llama
#   after      x + norm(f(x))                 OLMo 2
#   around     x + norm(f(norm(x)))           Gemma 2
#   after_sum  norm(x + f(x))                 OPT 350m
# and where attention f and MLP g stand side by side:
#   parallel   x + f(norm(x)) + g(norm(x))    Cohere
#   parallel_two  x + f(norm(x)) + g(other_norm(x))    GPT-NeoX
NormPlaces = Literal["before", "after", "around", "after_sum", "parallel", "parallel_two"]


class Norm(msgspec.Struct, frozen=True):
    """A normalisation of [.., width].

    rms: x / sqrt(mean(x^2) + eps) * (weight + offset). layer: x minus its mean, the same of its
    variance, plus a bias if there is one. has_weight: without one, it is 1.
    """

    eps: float
    kind: Literal["rms", "layer"] = "rms"
    offset: float = 0.0
    has_weight: bool = True
    has_bias: bool = False

    def __post_init__(self) -> None:
        if self.eps <= 0:
            raise ModelError(f"the eps of norms must be above 0, is {self.eps}")


class QueryScaling(msgspec.Struct, frozen=True):
    """Queries at position p are multiplied by 1 + beta * ln(1 + floor(p / original_len)).

    As Llama 4 and Ministral 3 have it.
    """

    beta: float
    original_len: int


class Latent(msgspec.Struct, frozen=True):
    """Keys and values compressed (DeepSeek-AI 2024): a token keeps one row for all heads.

    A row is kv_rank numbers, from which each head's key of nope_dim numbers and its value of v_dim
    would be expanded, and rope_dim numbers that turn and are every head's. q_rank: queries come
    through so few numbers; 0: of the token itself. norm_eps: of the norms of both. is_interleaved:
    numbers that turn together lie side by side. is_split: the file has what expands keys, already
    transposed, apart from what expands values.
    """

    kv_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int
    q_rank: int = 0
    norm_eps: float = 1e-6
    is_interleaved: bool = True
    is_split: bool = False

    def __post_init__(self) -> None:
        for field in ("kv_rank", "rope_dim", "nope_dim", "v_dim"):
            if getattr(self, field) <= 0:
                raise ModelError(
                    f"{field} of compressed keys must be above 0, is {getattr(self, field)}"
                )

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return self.kv_rank + self.rope_dim


class Attention(msgspec.Struct, frozen=True):
    """How a layer attends.

    rope: None where positions are not told (NoPE, or learned ones). scale: what products of queries
    and keys are multiplied by; None: head_dim ** -0.5. softcap: c, where scores s become
    c * tanh(s / c); 0: they stay. window: a token sees so many keys, itself included; 0: all before
    it. qk_norm: of queries and keys, "head": of each head by itself, "each": so, by weights of its
    own, "all": of all heads as one vector. norm_turned: they are normalised once they have turned.
    sinks: each head has a learned score beside those of the keys, which has no value. head_dim,
    num_kv_heads: this layer's; 0: the model's. v_norm: each head's value is divided by its root
    mean square. k_eq_v: values are what keys are before their norm and rotation.
    shares_kv_of: the layer before whose keys and values are seen here, which has none of its own.
    latent: keys and values are compressed; then heads have nope_dim + rope_dim numbers, and there
    are as many KV heads as heads, of which nothing is kept.
    is_gated: what is attended to is multiplied by sigmoid(a linear of x), number by number.
    out_scale: what the layer gives is multiplied by.
    """

    rope: Rope | None
    scale: float | None = None
    softcap: float = 0.0
    window: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: Literal["none", "head", "each", "all"] = "none"
    norm_turned: bool = False
    query_scaling: QueryScaling | None = None
    sinks: bool = False
    head_dim: int = 0
    num_kv_heads: int = 0
    v_norm: bool = False
    k_eq_v: bool = False
    shares_kv_of: int | None = None
    latent: Latent | None = None
    is_gated: bool = False
    out_scale: float = 1.0


class MLP(msgspec.Struct, frozen=True):
    """down(activation(gate(x)) * up(x)), or, not gated, down(activation(up(x))). width: of up.

    gate_scale, of silu alone: what the gate is multiplied by before. out_scale: what the MLP gives
    is multiplied by. has_out_bias: `down` has a bias though the others may have none.
    """

    width: int
    activation: Activation = "silu"
    is_gated: bool = True
    has_bias: bool = False
    gate_scale: float = 1.0
    out_scale: float = 1.0
    has_out_bias: bool = False


class GateClamp(msgspec.Struct, frozen=True):
    """A gate of limits: g * sigmoid(alpha * g) * (u + offset), of a gate and what it gates.

    g is the gate, at most `limit`; u the other, between -limit and limit.
    """

    limit: float
    alpha: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise ModelError(f"the limit of a gate must be above 0, is {self.limit}")


class Experts(msgspec.Struct, frozen=True):
    """A mixture: each token goes to the top_k of num experts that a router scores best.

    Each is an MLP of `width`, gated or not. router: what makes weights of the scores. renormalise:
    the chosen weights sum to 1; softmax over the chosen scores alone is the same. weight_scale:
    what they are then multiplied by. has_correction: a bias on the scores decides who is chosen,
    and does not weigh. shared_width: of an MLP that every token goes through, 0: none; shared_gate:
    its result is multiplied by sigmoid(a linear of x). router_eps: of a norm of its own that the
    router's input has, divided by its width's root besides; 0: none. has_scales: each expert's
    weight is multiplied by a number of its own. clamp: how gates work, instead of by the
    activation. has_bias: all linears of the experts have one. router_bias: the router, too.
    num_groups: experts come in so many groups, of which the top_groups best are chosen from.
    group_score: what says how good a group is, its best score or the sum of its two best.
    latent_width: experts compute on a linear of x of so many numbers, and their sum goes through
    another; 0: on x itself.
    """

    num: int
    top_k: int
    width: int
    activation: Activation = "silu"
    router: Literal["softmax", "sigmoid"] = "softmax"
    renormalise: bool = True
    weight_scale: float = 1.0
    has_correction: bool = False
    shared_width: int = 0
    shared_gate: bool = False
    router_eps: float = 0.0
    has_scales: bool = False
    clamp: GateClamp | None = None
    has_bias: bool = False
    router_bias: bool = False
    num_groups: int = 1
    top_groups: int = 1
    group_score: Literal["best", "two_best"] = "two_best"
    is_gated: bool = True
    latent_width: int = 0


class ShortConv(msgspec.Struct, frozen=True):
    """A gated convolution over the last tokens, each channel by itself (LFM2).

    out(c * conv(b * x)), where b, c and x are linears of the layer's input of `width` channels.
    kernel: taps, that of the token itself included; the inputs of the others are the state.
    """

    width: int
    kernel: int
    has_bias: bool = False

    def __post_init__(self) -> None:
        if self.width <= 0 or self.kernel < 2:
            raise ModelError(
                f"a convolution of {self.width} channels and {self.kernel} taps keeps no state; "
                "it needs channels, and 2 taps at least"
            )


class DeltaNet(msgspec.Struct, frozen=True):
    """A gated delta net (Yang et al. 2025), as Qwen3-Next and Qwen3.5 have it.

    Linears of x are queries, keys and values, which go through a convolution of `kernel` taps and
    silu; z, which gates what comes out; and a and b, one number a value head, which say how fast
    its state decays and how much is written. State and formula: ops/delta_rule.py. Each of
    num_key_heads serves as many value heads: neighbours, or, interleaved, those of the same place
    modulo num_key_heads. key_eps: added to the squares of a key or query where its length is taken.
    has_log_rates: the file has ln(-rate) of a head's decay, else the rate.
    """

    num_key_heads: int
    num_value_heads: int
    key_dim: int
    value_dim: int
    kernel: int
    key_eps: float
    has_log_rates: bool
    is_interleaved: bool = False

    def __post_init__(self) -> None:
        sizes = {
            "key heads": self.num_key_heads,
            "value heads": self.num_value_heads,
            "numbers of a key": self.key_dim,
            "numbers of a value": self.value_dim,
            "taps of the convolution less one": self.kernel - 1,
        }
        for name, size in sizes.items():
            if size <= 0:
                raise ModelError(f"a delta net needs {name} above 0, not {size}")
        if self.num_value_heads % self.num_key_heads:
            raise ModelError(
                f"{self.num_value_heads} value heads of a delta net cannot be shared out over "
                f"{self.num_key_heads} key heads"
            )

    @property
    def values_per_key(self) -> int:
        """Value heads that a key head serves."""
        return self.num_value_heads // self.num_key_heads

    @property
    def are_keys_shared(self) -> bool:
        """Whether every rank has all key heads, since value heads of each lie apart."""
        return self.is_interleaved and self.values_per_key > 1

    def num_key_heads_of(self, num_value_heads: int) -> int:
        """Return how many key heads a rank of so many value heads has."""
        if self.are_keys_shared:
            return self.num_key_heads
        return num_value_heads // self.values_per_key


class PartScales(msgspec.Struct, frozen=True):
    """What the parts of Mamba-2's way in, and what it gives, are multiplied by (Falcon-H1)."""

    gate: float = 1.0
    x: float = 1.0
    b: float = 1.0
    c: float = 1.0
    step: float = 1.0
    out: float = 1.0


class Mamba2(msgspec.Struct, frozen=True):
    """A state space (Dao and Gu 2024): a state [head_dim, state_dim] for each head.

    Linears of the input are a gate and x, of num_heads heads; B and C, which num_groups of heads
    share, neighbours; and a step for each head. x, B and C go through a convolution of `kernel`
    taps and silu. State and formula: ops/ssm_scan.py. steps_from, steps_to: the least and the most
    a step may be. norm: of each group's heads together, before the gate or behind it, or none.
    has_log_rates: the file has ln(-rate) of a head's decay, else the rate.
    """

    num_heads: int
    head_dim: int
    num_groups: int
    state_dim: int
    kernel: int
    has_conv_bias: bool = True
    in_bias: bool = False
    out_bias: bool = False
    norm: Literal["behind_gate", "before_gate", "none"] = "behind_gate"
    steps_from: float = 0.0
    steps_to: float = math.inf
    has_log_rates: bool = True
    scales: PartScales = PartScales()

    def __post_init__(self) -> None:
        sizes = {
            "heads": self.num_heads,
            "numbers of a head": self.head_dim,
            "groups": self.num_groups,
            "numbers of B and C": self.state_dim,
            "taps of the convolution less one": self.kernel - 1,
        }
        for name, size in sizes.items():
            if size <= 0:
                raise ModelError(f"a Mamba-2 layer needs {name} above 0, not {size}")
        if self.num_heads % self.num_groups:
            raise ModelError(
                f"{self.num_heads} heads of a Mamba-2 layer cannot be shared out over "
                f"{self.num_groups} groups"
            )
        if not 0 <= self.steps_from < self.steps_to:
            raise ModelError(
                f"steps of a Mamba-2 layer from {self.steps_from} to {self.steps_to}: "
                "the least must be 0 or more, and below the most"
            )

    @property
    def width(self) -> int:
        """Numbers of x, and of the gate."""
        return self.num_heads * self.head_dim

    @property
    def heads_per_group(self) -> int:
        """Heads that share B and C."""
        return self.num_heads // self.num_groups


# What keeps a state of fixed size for each sequence, in the place of keys and values or beside
# them; states.py says which.
StateMixer = ShortConv | DeltaNet | Mamba2


class Layer(msgspec.Struct, frozen=True):
    """Attention or a state mixer, then the MLP or experts.

    A layer may lack either part; of one that has attention and a state, the results of both are
    summed. residual_scale: what each part is multiplied by before it is added to the stream.
    beside: experts that run on what the MLP runs on; each has norms of its own, and their results
    are added. has_scalar: the stream is multiplied by a number in the end. is_input_normed:
    whether a norm stands before attention, where norms stand before (ModernBERT's first layer takes
    what is normalised).
    """

    attention: Attention | None = None
    mlp: MLP | Experts | None = None
    norms: NormPlaces = "before"
    residual_scale: float = 1.0
    beside: Experts | None = None
    has_scalar: bool = False
    state: StateMixer | None = None
    is_input_normed: bool = True

    @property
    def experts(self) -> Experts | None:
        """The layer's experts, whatever is beside them."""
        return self.mlp if isinstance(self.mlp, Experts) else self.beside

    @property
    def attends(self) -> Attention:
        """How the layer attends, of a model whose layers all do."""
        assert self.attention is not None
        return self.attention


class LearnedPositions(msgspec.Struct, frozen=True):
    """A table of vectors, one a position, from row `offset` on. rows: how many it has."""

    rows: int
    offset: int = 0


class PerLayerInput(msgspec.Struct, frozen=True):
    """What each layer is told of each token by itself: a vector of `width` a layer.

    It is the mean, in power, of a row of a table of tokens and of a linear of the embedded token,
    normalised. A layer gates it by activation(a linear of the stream), and adds a linear of that,
    normalised, to the stream (Gemma 3n).
    """

    width: int
    activation: Activation


class PositionBias(msgspec.Struct, frozen=True):
    """A learned number on the score of a query and a key, by how far apart they are and by head.

    Distances share buckets: half of these have one each, the others grow with the logarithm up to
    max_distance (Raffel et al. 2020). is_shared: all layers have the table of the first.
    """

    num_buckets: int
    max_distance: int
    is_shared: bool = True


class PromptEncoder(msgspec.Struct, frozen=True):
    """What reads the prompt where the decoder does not: each of its tokens sees all others.

    The decoder begins with start_token_id, and its layers attend to what the encoder gives after
    they have attended to their own tokens. bias: of the encoder's scores, and, of tables of its
    own, of the decoder's. max_model_len: tokens of prompt and answer together.
    """

    layers: tuple[Layer, ...]
    bias: PositionBias
    start_token_id: int
    max_model_len: int


class Classifier(msgspec.Struct, frozen=True):
    """The score of a text: a linear of one output, of one hidden state.

    of: of the first token's, the last one's, or the mean of all. activation: where there is one, a
    linear of as many outputs as inputs and this stand between; has_norm: a norm as well, behind it.
    has_bias, dense_bias: of the linears.
    """

    of: Literal["cls", "lasttoken", "mean"] = "cls"
    activation: Activation | Literal["tanh"] | None = "tanh"
    has_norm: bool = False
    has_bias: bool = True
    dense_bias: bool = True


class DecoderSpec(msgspec.Struct, frozen=True):
    """A decoder between token ids and logits.

    embedding_scale: what embedded tokens are multiplied by. embedding_width: of the tables of
    tokens, where it is not that of the layers: project_in and project_out stand between.
    logit_scale: what logits are multiplied by, before the cap. logit_softcap: as Attention.softcap.
    encoder: of an encoder-decoder. per_layer: what layers are told of tokens, None: nothing.
    draft_layers: behind the layers the file has so many more that guess tokens further ahead
    (multi-token prediction); they are left out. sees_ahead: tokens see those behind them as well,
    so that it is an encoder in all but its layers; a window counts in both directions.
    token_types: rows of a table of which text of a pair a token is of, 0 for none. embedding_norm:
    of what is embedded. classifier: of a model that scores.
    """

    layers: tuple[Layer, ...]
    norm: Norm
    has_final_norm: bool = True
    embedding_scale: float = 1.0
    embedding_width: int = 0
    positions: LearnedPositions | None = None
    logit_scale: float = 1.0
    logit_softcap: float = 0.0
    head_bias: bool = False
    encoder: PromptEncoder | None = None
    per_layer: PerLayerInput | None = None
    draft_layers: int = 0
    sees_ahead: bool = False
    token_types: int = 0
    embedding_norm: Norm | None = None
    classifier: Classifier | None = None


class RelativeBias(msgspec.Struct, frozen=True):
    """Scores of attention get a learned number by the distance of key and query, and by head.

    Half of num_buckets is for keys behind the query. Of each half, half stands for one distance
    each; the others grow with the logarithm of the distance, up to max_distance (Raffel et al.
    2020, section 2.1). rows: of the table, of which the first num_buckets are read.
    """

    rows: int
    num_buckets: int = 32
    max_distance: int = 128


class EncoderSpec(msgspec.Struct, frozen=True):
    """An encoder: every token sees all tokens of its sequence.

    Embeddings of tokens, positions and token types are summed and normalised. token_types: rows of
    that table, 0 for none. classifier: of a cross-encoder, which scores a pair of texts.
    """

    layers: tuple[Layer, ...]
    norm: Norm
    positions: LearnedPositions | None = None
    token_types: int = 0
    relative_bias: RelativeBias | None = None
    classifier: Classifier | None = None
