"""llama.cpp's keys and tables of rotary embedding."""

import math
from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.rope import Rope, RopeScaling
from backend.config.rope_fields import read_rope, rotary_dim

DIM = 64
TABLE = [1.0 + i for i in range(32)]
LONG = [2.0 + i for i in range(32)]


def rope_of(**keys: Any) -> Rope:
    """Read keys, given without `rope.` and with _ for the dots behind scaling."""
    values = {f"rope.{name.replace('scaling_', 'scaling.')}": v for name, v in keys.items()}
    fields = Fields("gguf", values | {"max_position_embeddings": 4096, "rope_theta": 1e5}, {})
    rope = read_rope(fields, rotary_dim(fields, DIM), interleaved=True)
    assert fields.left() == []
    return rope


def plain(scaling: RopeScaling | None = None, attention_factor: float = 1.0) -> Rope:
    return Rope(DIM, 1e5, scaling, attention_factor, is_interleaved=True)


YARN = {"scaling_type": "yarn", "scaling_factor": 4.0}
LN4 = 0.1 * math.log(4) + 1


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, plain()),
        ({"scaling_factor": 0.0}, plain()),
        ({"scaling_factor": 2.0}, plain(RopeScaling("linear", 2.0))),
        ({"scale_linear": 2.0}, plain(RopeScaling("linear", 2.0))),
        ({"scale_linear": 2.0, "scaling_factor": 3.0}, plain(RopeScaling("linear", 3.0))),
        ({"scaling_type": "none", "scaling_factor": 2.0}, plain()),
        ({"scaling_attn_factor": 1.2}, plain(None, 1.2)),
        ({"factors": TABLE}, plain(RopeScaling("factors", factors=tuple(TABLE)))),
        (
            {"factors": TABLE, "scaling_factor": 2.0},
            plain(RopeScaling("factors", factors=tuple(2 * by for by in TABLE))),
        ),
        (YARN, plain(RopeScaling("yarn", 4.0, original_max_position_embeddings=4096), LN4)),
        (
            YARN | {"scaling_original_context_length": 0},
            plain(RopeScaling("yarn", 4.0, original_max_position_embeddings=4096), LN4),
        ),
        (
            YARN | {
                "scaling_original_context_length": 512,
                "scaling_yarn_beta_fast": 16.0,
                "scaling_yarn_beta_slow": 2.0,
                "scaling_yarn_log_multiplier": 1.0,
                "scaling_yarn_ext_factor": 1.0,
                "scaling_finetuned": True,
                "factors": TABLE,
            },
            plain(
                RopeScaling(
                    "yarn", 4.0, original_max_position_embeddings=512, factors=tuple(TABLE),
                    beta_fast=16.0, beta_slow=2.0,
                )
            ),
        ),
        (
            YARN | {"scaling_yarn_attn_factor": 1.5, "scaling_attn_factor": 2.0},
            plain(RopeScaling("yarn", 4.0, original_max_position_embeddings=4096), 3.0),
        ),
        (
            {
                "scaling_type": "longrope",
                "scaling_original_context_length": 512,
                "scaling_attn_factor": 1.19,
                "short_factors": TABLE,
                "long_factors": LONG,
            },
            plain(
                RopeScaling(
                    "longrope", original_max_position_embeddings=512, factors=tuple(TABLE),
                    long_factors=tuple(LONG),
                ),
                1.19,
            ),
        ),
        # Without a table llama.cpp stretches nothing.
        ({"scaling_type": "longrope"}, plain()),
    ],
)  # fmt: skip
def test_keys_mean_what_llama_cpp_does_with_them(keys: dict[str, Any], expected: Rope) -> None:
    assert rope_of(**keys) == expected


def test_factors_come_before_the_ramp_of_yarn() -> None:
    """ggml's rope_yarn is given theta / factor."""
    divided = rope_of(**YARN, factors=TABLE).inv_freq(4096)
    whole = rope_of(**YARN).inv_freq(4096)
    assert divided == pytest.approx([freq / by for freq, by in zip(whole, TABLE, strict=True)])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scaling_type": "dynamic"}, "'dynamic' is not supported; none, linear, yarn, longrope"),
        ({"scaling_factor": -1.0}, "below 0"),
        ({"scaling_alpha": 4.0}, "no family here has its scaling"),
        (YARN | {"scaling_yarn_ext_factor": 0.5}, "only the whole ramp, 1, is supported"),
        ({"short_factors": TABLE}, "rope_factors_short.weight is missing"),
        ({"short_factors": TABLE, "long_factors": LONG, "factors": TABLE}, "beside rope_factors"),
        ({"factors": [1.0]}, "1 rotary factors for 64 rotated dimensions"),
    ],
)
def test_what_cannot_be_turned_is_said(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        rope_of(**keys)
