"""Relative position bias (Raffel et al. 2020): what stands in T5 where others rotate."""

import math

import torch
from torch import Tensor

from backend.config.spec import PositionBias, RelativeBias
from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.ops.score_bias import ScoreBias
from backend.placement.sharding import Shard


def position_bias(
    loader: WeightLoader,
    bias: PositionBias,
    shard: Shard,
    context: ComputeContext,
    *,
    both_ways: bool,
) -> ScoreBias:
    """Return this rank's heads of a learned table, spread over distances.

    both_ways: keys stand behind a query, too, and have buckets of their own.
    """
    most = bias.max_distance if both_ways else 0
    table = loader.take("relative_bias.weight")[:, shard.heads]
    distances = torch.arange(-bias.max_distance, most + 1)
    found = buckets(distances, bias, both_ways=both_ways)
    # [distances, H] -> [H, distances]
    numbers = table[found.to(table.device)].T.contiguous().to(context.dtype)
    return ScoreBias(numbers, -bias.max_distance)


def buckets(distances: Tensor, bias: PositionBias | RelativeBias, *, both_ways: bool) -> Tensor:
    """Return the bucket of each distance, int64, as Mesh TensorFlow's transformer and
    transformers' T5 have it.

    A quarter of the buckets, or half if keys stand before queries only, has one distance each; the
    rest grows with the logarithm up to max_distance.
    """
    count = bias.num_buckets // 2 if both_ways else bias.num_buckets
    offset = (distances > 0).long() * count if both_ways else 0
    away = distances.abs() if both_ways else (-distances).clamp(min=0)
    exact = count // 2
    # float32, and cut, not rounded: where a bucket ends depends on it.
    logs = torch.log(away.clamp(min=1).float() / exact) / math.log(bias.max_distance / exact)
    far = (exact + (logs * (count - exact)).long()).clamp(max=count - 1)
    return offset + torch.where(away < exact, away, far)
