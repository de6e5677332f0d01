"""A model runner that fails where a test asks for it; see backend/fault_injection.py."""

import torch

from backend.engine.model_runner import ModelRunner
from backend.fault_injection import Faults
from backend.models.model import Model
from backend.ops.kv_cache import KVCache
from backend.sampling.sampler import Sampler
from backend.step import StepPlan


class FaultyModelRunner(ModelRunner):
    """Strikes requests before the forward pass, once their rows have joined."""

    def __init__(
        self,
        model: Model,
        kv_cache: KVCache,
        sampler: Sampler,
        device: torch.device,
        faults: Faults,
    ) -> None:
        """See ModelRunner."""
        super().__init__(model, kv_cache, sampler, device)
        self._faults = faults

    def _join(self, plan: StepPlan) -> None:
        super()._join(plan)
        params = self._sampler.params_of(plan.sample_rows)
        self._faults.strike_forward(params, plan.sample_positions.tolist())
