"""The states of one rank: what layers keep of fixed size for each sequence, addressed by slot."""

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.ops.zeros import zeros
from backend.placement.sharding import Shard


class StateCache:
    """Tensors of float32, [slots, *shape], for each state of each layer that keeps any."""

    def __init__(
        self, config: ModelConfig, shard: Shard, num_slots: int, device: torch.device
    ) -> None:
        self.num_slots = num_slots
        self._layers: list[tuple[Tensor, ...]] = []
        for index, layer in enumerate(config.spec.layers):
            is_own = index in shard.stage.layers
            shapes = shard.state_shapes(layer.state) if is_own else ()
            self._layers.append(
                tuple(zeros((num_slots, *shape), torch.float32, device) for _, shape in shapes)
            )

    def layer(self, index: int) -> tuple[Tensor, ...]:
        """Return a layer's states, in the order of config/states.py; none where it keeps none, or
        is another stage's."""
        return self._layers[index]
