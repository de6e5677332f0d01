"""What a model is: its sizes, its special ids, and what it computes.

Owns ModelConfig, whichever file it came from; load.py reads it. Knows no torch, so that the
gateway can import it.
"""

import msgspec

from backend.config.errors import ModelError
from backend.config.foreign import Foreign
from backend.config.pooling import Pooling
from backend.config.spec import MLP, Attention, DecoderSpec, EncoderSpec, Layer, PromptEncoder


class ModelConfig(msgspec.Struct, frozen=True):
    """One model as the engine sees it. Raises ModelError where the numbers contradict each other.

    family: a name of `config.families`, whose names of tensors the file has.
    name: what /v1/models shows unless the operator chose another.
    max_model_len: the context it was trained for, tokens.
    eos_token_ids, bos_token_id: only ids below vocab_size, whatever the file says: the others have
    no embedding and no logit.
    stored_dtype: what the file mostly holds ("Q4_1", "bfloat16"), for the start-up line.
    notes: what else the operator should know, a line each.
    foreign: of a model that transformers' modelling code runs; None: our own decoder does.
    pooling: what is made of a text's hidden states; None for models that generate.
    """

    family: str
    name: str
    vocab_size: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_model_len: int
    spec: DecoderSpec | EncoderSpec
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    stored_dtype: str
    notes: tuple[str, ...] = ()
    foreign: Foreign | None = None
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        for field in _POSITIVE:
            if getattr(self, field) <= 0:
                raise ModelError(f"{field} must be above 0, is {getattr(self, field)}")
        if not self.spec.layers:
            raise ModelError("num_layers must be above 0, is 0")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ModelError(f"head_dim must be even, is {self.head_dim}")
        encoder = self.encoder
        for layer in (*self.spec.layers, *(encoder.layers if encoder else ())):
            self._check_layer(layer)
        if encoder:
            self._check_encoder(encoder)

        known = tuple(
            token_id for token_id in self.eos_token_ids if 0 <= token_id < self.vocab_size
        )
        msgspec.structs.force_setattr(self, "eos_token_ids", known)
        if self.bos_token_id is not None and not 0 <= self.bos_token_id < self.vocab_size:
            msgspec.structs.force_setattr(self, "bos_token_id", None)

    def _check_layer(self, layer: Layer) -> None:
        if layer.attention is None and layer.state is None and layer.mlp is None:
            raise ModelError("a layer has neither attention nor a state nor an MLP")
        if layer.attention is not None:
            self._check_heads(layer.attention)
        if layer.mlp is not None and layer.mlp.width <= 0:
            raise ModelError(f"intermediate_size must be above 0, is {layer.mlp.width}")

    def _check_heads(self, attention: Attention) -> None:
        num_kv_heads, head_dim = self.num_kv_heads_of(attention), self.head_dim_of(attention)
        if num_kv_heads <= 0 or self.num_heads % num_kv_heads:
            raise ModelError(
                f"num_heads {self.num_heads} is not a multiple of a layer's {num_kv_heads} KV heads"
            )
        if head_dim <= 0 or head_dim % 2:
            raise ModelError(f"the head_dim of a layer must be even, is {head_dim}")
        rope = attention.rope
        if rope is not None and rope.dim > head_dim:
            raise ModelError(f"{rope.dim} of a head's {head_dim} dimensions cannot be rotated")

    def _check_encoder(self, encoder: PromptEncoder) -> None:
        bias = encoder.bias
        if not encoder.layers:
            raise ModelError("the encoder's num_layers must be above 0, is 0")
        if not 0 <= encoder.start_token_id < self.vocab_size:
            raise ModelError(
                f"decoder_start_token_id {encoder.start_token_id} is not in the vocabulary of "
                f"{self.vocab_size}"
            )
        if (
            bias.num_buckets < 4
            or bias.num_buckets % 2
            or 2 * bias.max_distance <= bias.num_buckets
        ):
            raise ModelError(
                f"relative_attention_num_buckets {bias.num_buckets} must be even, 4 at least and "
                f"below twice relative_attention_max_distance, which is {bias.max_distance}"
            )

    @property
    def num_layers(self) -> int:
        return len(self.spec.layers)

    @property
    def attentions(self) -> list[Attention]:
        """How those layers attend that do."""
        return [layer.attention for layer in self.spec.layers if layer.attention is not None]

    def head_dim_of(self, attention: Attention) -> int:
        """Return the size of the heads of a layer."""
        return attention.head_dim or self.head_dim

    def num_kv_heads_of(self, attention: Attention) -> int:
        """Return how many keys and values a layer has of each token."""
        return attention.num_kv_heads or self.num_kv_heads

    @property
    def intermediate_size(self) -> int:
        """Columns of the widest dense MLP; of an expert's where there is none; or 0."""
        mlps = [layer.mlp for layer in self.spec.layers if layer.mlp is not None]
        dense = [mlp.width for mlp in mlps if isinstance(mlp, MLP)]
        return max(dense or [mlp.width for mlp in mlps], default=0)

    @property
    def per_layer_width(self) -> int:
        """Numbers that all layers together are told of a token."""
        told = self.spec.per_layer if isinstance(self.spec, DecoderSpec) else None
        return told.width * self.num_layers if told else 0

    @property
    def embedding_width(self) -> int:
        """Columns of the table of tokens."""
        width = self.spec.embedding_width if isinstance(self.spec, DecoderSpec) else 0
        return width or self.hidden_size

    @property
    def encoder(self) -> PromptEncoder | None:
        """What reads the prompt of an encoder-decoder; None: the decoder does."""
        return self.spec.encoder if isinstance(self.spec, DecoderSpec) else None

    @property
    def sees_ahead(self) -> bool:
        """Whether tokens see those behind them: then nothing is kept, and no text is made."""
        return isinstance(self.spec, EncoderSpec) or self.spec.sees_ahead

    @property
    def num_token_types(self) -> int:
        """Rows of the table of which text of a pair a token is of; 0: there is none."""
        return self.spec.token_types

    @property
    def has_head(self) -> bool:
        """Whether hidden states become logits: to generate, or to score by a token's logit."""
        if isinstance(self.spec, EncoderSpec) or self.spec.classifier:
            return False
        return self.pooling is None or bool(self.pooling.answer_ids)

    @property
    def runs_whole(self) -> bool:
        """Whether all tokens of a sequence go through the model in one step.

        An encoder's tokens see those behind them; and what is made of all tokens of a decoder needs
        all their hidden states.
        """
        if self.pooling is None:
            return False
        return self.sees_ahead or self.pooling.modes != ("lasttoken",)

    def pooled(self, pooling: Pooling, notes: tuple[str, ...] = ()) -> "ModelConfig":
        """Return the configuration of the same model, not to generate but to be pooled."""
        return msgspec.structs.replace(
            self,
            pooling=pooling,
            notes=self.notes + notes,
            tie_word_embeddings=self.tie_word_embeddings and bool(pooling.answer_ids),
        )


_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "max_model_len",
)
