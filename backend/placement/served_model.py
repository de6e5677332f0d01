"""A model and how it would be served: what each rank of a layout would keep of it.

Knows configurations and headers, no device and no load. Cuts are kept: a plan asks for the same
ones again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from backend.config.cache_groups import CacheGroup
from backend.config.cache_shapes import groups_of
from backend.config.model_config import ModelConfig
from backend.config.tensors import TensorKind
from backend.placement.footprint import Footprint, layer_sizes, mlp_unit
from backend.placement.known_weights import KnownWeights
from backend.placement.memory import DTYPE_BYTES
from backend.placement.sharding import Shard, split_model
from backend.placement.stages import (
    LayerSizes,
    Stage,
    check_stages,
    cut_layers,
    stage_kinds,
    whole_model,
)
from backend.quant.kept_weights import KeptWeights, KernelKind
from backend.settings import EngineSettings

# Weights of a block of a file's format: a cut inside one makes a tensor dense.
_LONGEST_BLOCK = 256


@dataclass(frozen=True)
class ServedModel:
    """A model and how it would be served.

    stored: what is known of its weights. dtype: of the forward pass, never "auto". kernels: who
    multiplies. settings: the rest; its model, tp, dp and devices are not looked at.
    """

    config: ModelConfig
    stored: KnownWeights
    dtype: str
    kernels: KernelKind
    settings: EngineSettings

    @cached_property
    def max_model_len(self) -> int:
        """Tokens of the longest sequence."""
        wanted = self.settings.max_model_len or self.config.max_model_len
        return min(wanted, self.config.max_model_len)

    @cached_property
    def groups(self) -> tuple[CacheGroup, ...]:
        """Layers by what they keep of a sequence."""
        return groups_of(self.config, self.max_model_len)

    @property
    def kept(self) -> KeptWeights:
        """How weights are kept."""
        return KeptWeights(self.settings.quantization, self.kernels, DTYPE_BYTES[self.dtype])

    def parts(self, tp: int, pp: int = 1) -> list[tuple[Shard, Footprint]]:
        """Return each rank's share of the model, and what it keeps of the weights, stage by stage.
        Raises ModelError where the model cannot be cut so."""
        if (tp, pp) not in self._parts:
            parts: list[tuple[Shard, Footprint]] = []
            known: dict[tuple[object, ...], Footprint] = {}
            for stage in self.stages(pp):
                kinds = tuple(stage_kinds(self.config, self._kinds, stage)) if pp > 1 else ()
                # Stages that have as many of the same layers keep as much.
                key = tuple((kind.name, kind.num_alike) for kind in kinds)
                for shard in self._shards(tp, stage):
                    share = (*self._share_of(shard), stage.is_first, stage.is_last, key)
                    if share not in known:
                        known[share] = self._footprint(shard)
                    parts.append((shard, known[share]))
            self._parts[tp, pp] = parts
        return self._parts[tp, pp]

    def stages(self, pp: int) -> list[Stage]:
        """Return a group's stages. Raises ModelError where layers cannot be cut for so many."""
        check_stages(self.config, pp)
        if pp == 1:
            return [whole_model(self.config)]
        cuts = cut_layers(self.config, pp, self._layer_sizes)
        return [Stage(index, cuts) for index in range(pp)]

    def _shards(self, tp: int, stage: Stage) -> list[Shard]:
        if tp not in self._split:
            is_parallel = self.settings.expert_parallel
            self._split[tp] = split_model(
                self.config, tp, self._mlp_unit, expert_parallel=is_parallel
            )
        return [replace(shard, stage=stage) for shard in self._split[tp]]

    @cached_property
    def _split(self) -> dict[int, list[Shard]]:
        return {}

    @cached_property
    def _layer_sizes(self) -> LayerSizes:
        return layer_sizes(self.stored, self.config, self._kinds)

    def _share_of(self, shard: Shard) -> tuple[object, ...]:
        """Return what two ranks have in common that have as much of every tensor, cut alike: of a
        model whose layers are alike, parts as long that begin at as far into a block."""
        if not self._is_even or shard.experts is not None:
            return (shard.rank,)
        columns = (shard.heads.start * self.config.head_dim, shard.intermediate.start)
        parts = (shard.heads, shard.kv_heads, shard.intermediate, shard.vocab)
        return (
            *(part.stop - part.start for part in parts),
            *(start % _LONGEST_BLOCK for start in columns),
        )

    @cached_property
    def _is_even(self) -> bool:
        """Whether all layers have as many heads, and MLPs or experts as wide, and keep no state."""
        spec = self.config.spec
        if self.config.encoder or any(layer.state for layer in spec.layers):
            return False
        kinds = {
            (
                layer.attention and self.config.num_kv_heads_of(layer.attention),
                layer.attention and self.config.head_dim_of(layer.attention),
                layer.mlp,
                layer.beside,
            )
            for layer in spec.layers
        }
        return len(kinds) == 1

    @cached_property
    def _parts(self) -> dict[tuple[int, int], list[tuple[Shard, Footprint]]]:
        return {}

    @cached_property
    def _kinds(self) -> Sequence[TensorKind]:
        return self.stored.kinds(self.config)

    @cached_property
    def _mlp_unit(self) -> int:
        return mlp_unit(self.stored, self._kinds)

    def _footprint(self, shard: Shard) -> Footprint:
        return Footprint(self.stored, self.config, shard, self.kept, self.dtype, kinds=self._kinds)

    def changed(self, **settings: object) -> "ServedModel":
        """Return the same model with other settings."""
        return replace(self, settings=msgspec.structs.replace(self.settings, **settings))
