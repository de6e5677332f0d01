"""Buckets of distances, against transformers' own."""

import torch
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from backend.config.spec import RelativeBias
from backend.layers.position_bias import buckets


def test_buckets_are_those_of_transformers() -> None:
    distances = torch.arange(-600, 601)
    expected = MPNetEncoder.relative_position_bucket(distances)
    assert torch.equal(buckets(distances, RelativeBias(32), both_ways=True), expected)
