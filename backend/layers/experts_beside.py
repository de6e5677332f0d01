"""Experts beside an MLP, as Gemma 4's mixtures have them."""

from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import Experts
from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.layers.moe import MixtureOfExperts
from backend.layers.norm import NormLayer


class ExpertsBeside:
    """Adds what a layer's experts give to what its MLP gives, each normalised by itself."""

    def __init__(
        self, config: ModelConfig, experts: Experts, loader: WeightLoader, context: ComputeContext
    ) -> None:
        """loader: of the layer."""
        norm, ops = config.spec.norm, context.ops
        self._ops = ops
        self._experts = MixtureOfExperts(loader.at("mlp"), experts, context)
        self._dense_norm = NormLayer(loader, "mlp_dense_norm", norm, ops)
        self._input_norm = NormLayer(loader, "experts_input_norm", norm, ops)
        self._output_norm = NormLayer(loader, "experts_output_norm", norm, ops)

    def forward(self, dense: Tensor, x: Tensor) -> Tensor:
        """dense: what the MLP gives; x: the stream before its norm. [T, hidden] -> [T, hidden]."""
        mixed = self._experts.forward(self._input_norm.forward(x)[1], routed=x)
        beside = self._output_norm.forward(mixed)[1]
        return self._ops.add(self._dense_norm.forward(dense)[1], beside)
