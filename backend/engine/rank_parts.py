"""What a rank computes with, found out before anything is loaded."""

from dataclasses import dataclass

from backend.config.cache_groups import CacheGroup
from backend.config.cache_shapes import groups_of
from backend.config.model_config import ModelConfig
from backend.distributed.pipeline import Pipeline
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.platform import DTYPES, Platform, device_of, resolve_dtype
from backend.layers.compute_context import ComputeContext
from backend.ops.native import NativeOps
from backend.placement.sharding import Shard
from backend.quant.kept_weights import KeptWeights
from backend.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class RankParts:
    """What every step of building a rank is told. kernels: what computes, in words."""

    settings: EngineSettings
    config: ModelConfig
    groups: tuple[CacheGroup, ...]
    context: ComputeContext
    kept: KeptWeights
    shard: Shard
    tp: TensorParallel
    pipeline: Pipeline
    max_model_len: int
    kernels: str

    @property
    def number(self) -> int:
        """Which rank of the group it is."""
        return self.pipeline.index * self.tp.size + self.tp.rank

    @classmethod
    def resolve(
        cls,
        settings: EngineSettings,
        config: ModelConfig,
        shard: Shard,
        tp: TensorParallel,
        pipeline: Pipeline,
        first_rank: int,
    ) -> "RankParts":
        """Find out with what to compute this rank's part."""
        device = device_of(settings, pipeline.index * tp.size + tp.rank, first_rank)
        dtype = DTYPES[resolve_dtype(settings, device)]
        platform = Platform.choose(settings, dtype, device, config)
        context = ComputeContext(
            dtype,
            device,
            platform.ops,
            platform.method,
            tp,
            records_decodes=isinstance(platform.ops, NativeOps) and not settings.enforce_eager,
        )
        max_len = min(settings.max_model_len or config.max_model_len, config.max_model_len)
        groups = groups_of(config, max_len, shard.stage.cuts)
        return cls(
            settings,
            config,
            groups,
            context,
            platform.kept,
            shard,
            tp,
            pipeline,
            max_len,
            ", ".join(filter(None, (platform.description, tp.description))),
        )
