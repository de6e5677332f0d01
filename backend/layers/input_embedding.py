"""What the first layer of a decoder takes: tokens, and their positions where those are learned."""

from torch import Tensor

from backend.config.spec import DecoderSpec
from backend.config.tensors import EMBEDDING
from backend.layers.embedding import Embedding, VocabParallelHead
from backend.layers.loader import WeightLoader
from backend.layers.norm import NormLayer
from backend.ops.batch import Batch
from backend.ops.op_table import Ops


class InputEmbedding:
    """Tokens, and their positions where those are learned, as the first layer takes them."""

    def __init__(
        self, spec: DecoderSpec, loader: WeightLoader, tied: VocabParallelHead | None, ops: Ops
    ) -> None:
        self._tokens = Embedding(loader, EMBEDDING, tied)
        self._scale = spec.embedding_scale
        self._positions = loader.take("model.embed_positions.weight") if spec.positions else None
        self._offset = spec.positions.offset if spec.positions else 0
        self._project_in = (
            loader.pack("model.project_in.weight")
            if loader.has("model.project_in.weight")
            else None
        )
        self._types = loader.take("model.embed_token_types.weight") if spec.token_types else None
        norm = spec.embedding_norm
        self._norm = NormLayer(loader, "model.embedding_norm", norm, ops) if norm else None

    def forward(self, batch: Batch) -> Tensor:
        """Return [T, hidden]."""
        x = self._tokens.forward(batch.input_ids)
        if self._scale != 1.0:
            x = x * self._scale
        if self._project_in is not None:
            x = self._project_in.apply(x)
        if self._positions is not None:
            x = x + self._positions.index_select(0, batch.positions + self._offset)
        if self._types is not None:
            types = batch.token_types
            x = x + (self._types[0] if types is None else self._types.index_select(0, types))
        return x if self._norm is None else self._norm.forward(x)[1]
