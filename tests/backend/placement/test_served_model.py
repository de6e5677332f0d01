"""What ranks keep of a model, counted once where they keep as much."""

import pytest

from backend.placement.footprint import Footprint
from tests.backend.placement.planned_models import served


@pytest.mark.parametrize(
    "fields",
    [
        {"num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 1024},
        {"num_attention_heads": 10, "num_key_value_heads": 5, "intermediate_size": 352},
        {"architectures": ["Gemma3ForCausalLM"], "num_key_value_heads": 2, "head_dim": 16},
        {
            "architectures": ["MixtralForCausalLM"],
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
    ],
)
@pytest.mark.parametrize("settings", [{}, {"quantization": "int4"}])
def test_ranks_that_keep_as_much_are_counted_once(
    fields: dict[str, object], settings: dict[str, str]
) -> None:
    """Each counted by itself has the same bytes."""
    model = served(fields, **settings)
    for tp in range(1, model.config.num_kv_heads + 1):
        parts = model.parts(tp)
        if fields.get("head_dim") == 256 and tp in (2, 4):
            assert len({id(footprint) for _, footprint in parts}) == 1
        for shard, footprint in parts:
            kinds = model.stored.kinds(model.config)
            alone = Footprint(
                model.stored, model.config, shard, model.kept, model.dtype, kinds=kinds
            )
            assert footprint.total == alone.total
