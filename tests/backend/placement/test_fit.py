"""Whether layouts fit, in a start's words where they do not."""

import msgspec
import pytest

from backend.config.errors import ModelError
from backend.placement.batch_simulation import Load
from backend.placement.fit import fit
from backend.placement.layout import Layout
from tests.backend.placement.planned_models import READER, served

LOAD = Load(prompt_tokens=16, output_tokens=16, concurrency=4)


@pytest.mark.parametrize(
    ("layout", "memory_bytes", "load", "message"),
    [
        (Layout(3), 1 << 24, LOAD, r"--tp 3 is more than tiny can be split into: it has 2 KV"),
        (Layout(1), 1 << 17, LOAD, "not enough memory: weights and activations need"),
        (Layout(1), 1 << 24, Load(1000, 100, 1), "are 1,100 tokens, tiny takes 1,024"),
        (Layout(1), 340_000 + 65_536, Load(500, 500, 1), "a sequence of 1,000 tokens takes"),
    ],
)
def test_layout_is_refused_in_a_starts_words(
    layout: Layout, memory_bytes: int, load: Load, message: str
) -> None:
    profile = msgspec.structs.replace(READER, memory_bytes=memory_bytes)
    with pytest.raises(ModelError, match=message):
        fit(served(), profile, layout, load)


def test_fullest_rank_is_that_with_most_of_weights_and_cache() -> None:
    """Its weights alone may be the smallest: an MLP's columns even them out."""
    fitted = fit(
        served({"num_attention_heads": 8, "num_key_value_heads": 4}), READER, Layout(3), LOAD
    )
    assert 2 * fitted.plan.block_bytes == fitted.plan.group_block_bytes


def test_processor_is_shared_by_all_ranks() -> None:
    cpu = msgspec.structs.replace(READER, kind="cpu", threads=2)
    one, two = (fit(served(), cpu, layout, LOAD) for layout in (Layout(1), Layout(1, 2)))
    assert two.plan.free_bytes == one.plan.free_bytes // 2
