"""The mixers that keep a state for each sequence, by what a spec says."""

from typing import Protocol

from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import DeltaNet, Mamba2, ShortConv, StateMixer
from backend.layers.compute_context import ComputeContext
from backend.layers.delta_net import GatedDeltaNet
from backend.layers.loader import WeightLoader
from backend.layers.mamba2 import Mamba2Mixer
from backend.layers.short_conv import ShortConvolution
from backend.layers.state_step import StateStep
from backend.placement.sharding import Shard


class Mixer(Protocol):
    """This rank's part of a layer's state mixer; the ranks' results are summed."""

    def forward(self, x: Tensor, step: StateStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        ...


def build_mixer(
    config: ModelConfig,
    state: StateMixer,
    loader: WeightLoader,
    shard: Shard,
    context: ComputeContext,
) -> Mixer:
    """Load a layer's state mixer. loader: of the layer."""
    match state:
        case ShortConv():
            return ShortConvolution(loader.at("short_conv"), context)
        case DeltaNet():
            return GatedDeltaNet(config, state, loader.at("linear_attn"), shard, context)
        case Mamba2():
            return Mamba2Mixer(config, state, loader.at("mamba"), shard, context)
