"""Rotary frequencies against transformers' own functions, in both layouts of config.json."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.rope import Rope, RopeScaling
from backend.config.rope_fields import context_length, read_rope, rotary_dim

HEAD_DIM = 64
# Of fields that every case has; a case's own come on top.
SIZES = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 4096,
    "rope_theta": 5e5,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0}
SHORT, LONG = [1.0 + i / 40 for i in range(32)], [2.0 + i / 4 for i in range(32)]
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG}
ORIGINAL = "original_max_position_embeddings"

CASES: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "linear, older name": {"type": "linear", "factor": 4},
    "llama3": {"rope_type": "llama3", ORIGINAL: 1024} | LLAMA3,
    "llama3 of the whole context": {"rope_type": "llama3"} | LLAMA3,
    "yarn": YARN,
    "yarn, original": YARN | {ORIGINAL: 1000},
    "yarn, mscale": YARN | {"mscale": 1.0, "mscale_all_dim": 0.8, ORIGINAL: 1024},
    "yarn, mscale alone": YARN | {"mscale": 0.7, ORIGINAL: 1024},
    "yarn, attention factor": YARN
    | {"attention_factor": 1.3, "mscale": 1.0, "mscale_all_dim": 2.0},
    "yarn, betas": YARN | {"beta_fast": 20, "beta_slow": 2, ORIGINAL: 512},
    "yarn, not truncated": YARN | {"truncate": False, ORIGINAL: 1024},
    "yarn, partial": YARN | {"partial_rotary_factor": 0.5, ORIGINAL: 1024},
    "yarn, no factor": {"rope_type": "yarn", "factor": None, ORIGINAL: 1024},
    "yarn, a narrow ramp": YARN | {"beta_fast": 2.0, "beta_slow": 2.0, "truncate": False},
    "longrope": LONGROPE | {ORIGINAL: 1024},
    "longrope, factor": LONGROPE | {ORIGINAL: 1024, "factor": 3.0},
    "longrope, attention factor": LONGROPE | {ORIGINAL: 1024, "attention_factor": 1.1},
    "longrope of the whole context": LONGROPE,
}


def fields_of(**values: Any) -> Fields:
    return Fields("huggingface", SIZES | values, {})


def rope_of(fields: Fields) -> Rope:
    return read_rope(fields, rotary_dim(fields, HEAD_DIM, 1.0))


def reference(length: int | None = None, **values: Any) -> tuple[list[float], float]:
    """Return transformers' frequencies and attention factor."""
    config = LlamaConfig(**SIZES | values)
    kind = config.rope_parameters["rope_type"]
    inv_freq, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=length)
    return inv_freq.tolist(), float(factor)


@pytest.mark.parametrize("layout", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("name", CASES)
def test_frequencies_are_those_of_transformers(name: str, layout: str) -> None:
    """At the longest length, which decides for longrope. fp32's powers differ by some 1e-7."""
    rope = rope_of(fields_of(**{layout: dict(CASES[name])}))
    inv_freq, factor = reference(4096, **{layout: dict(CASES[name])})
    assert rope.inv_freq(4096) == pytest.approx(inv_freq, rel=1e-6)
    assert rope.attention_factor == pytest.approx(factor, rel=1e-6)
    assert rope.dim == 2 * len(inv_freq)


def test_longrope_takes_short_factors_for_short_lengths() -> None:
    parameters = LONGROPE | {ORIGINAL: 1024}
    rope = rope_of(fields_of(rope_scaling=dict(parameters)))
    short, factor = reference(1024, rope_scaling=dict(parameters))
    assert rope.inv_freq(1024) == pytest.approx(short, rel=1e-6)
    assert rope.inv_freq(1025) == pytest.approx(
        reference(1025, rope_scaling=dict(parameters))[0], rel=1e-6
    )
    assert rope.attention_factor == pytest.approx(factor)


@pytest.mark.parametrize("length", [1, 4096, 4097, 9000])
def test_dynamic_turns_a_position_as_the_last_of_its_sequence(length: int) -> None:
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    fields = fields_of(rope_scaling=dict(scaling))
    rope, base = rope_of(fields), reference(length, rope_scaling=dict(scaling))[0][1]
    assert rope.theta_at(length - 1) ** (-2 / HEAD_DIM) == pytest.approx(base, rel=1e-6)
    assert not rope.has_one_base
    # The trained context is where stretching begins, not where sequences end.
    assert context_length(fields) == 4 * 4096
    assert context_length(fields_of(rope_scaling={"rope_type": "linear", "factor": 4.0})) == 4096


def test_older_layout_wins_with_the_base_beside_it() -> None:
    """transformers 5.23 throws the newer one away, its base too."""
    both: dict[str, Any] = {
        "rope_parameters": {"rope_type": "default", "rope_theta": 7e4},
        "rope_scaling": {"type": "linear", "factor": 4.0},
    }
    rope = rope_of(fields_of(**both))
    assert rope == Rope(HEAD_DIM, 5e5, RopeScaling("linear", 4.0))
    assert rope.inv_freq(4096) == pytest.approx(reference(**both)[0], rel=1e-6)
    del both["rope_scaling"]
    assert rope_of(fields_of(**both)) == Rope(HEAD_DIM, 7e4)
    assert rope_of(fields_of(**both, rope_scaling={})) == Rope(HEAD_DIM, 7e4)


def test_original_context_beside_the_parameters_wins() -> None:
    scaling = YARN | {ORIGINAL: 2048}
    rope = rope_of(fields_of(rope_scaling=dict(scaling), **{ORIGINAL: 512}))
    assert rope.scaling and rope.scaling.original_max_position_embeddings == 512
    expected = reference(rope_scaling=dict(scaling), **{ORIGINAL: 512})[0]
    assert rope.inv_freq(4096) == pytest.approx(expected, rel=1e-6)


def test_share_of_proportional_is_of_frequencies() -> None:
    """The head turns as a whole; it was taken for a part, and a share of that stood still."""
    parameters = {"rope_type": "proportional", "partial_rotary_factor": 0.25}
    fields = fields_of(rope_parameters=dict(parameters))
    assert rotary_dim(fields, HEAD_DIM) == HEAD_DIM
    inv_freq = rope_of(fields).inv_freq(4096)
    assert inv_freq == pytest.approx(reference(rope_parameters=dict(parameters))[0], rel=1e-6)
    assert sum(freq > 0 for freq in inv_freq) == HEAD_DIM // 8


def test_parameters_by_layer_type_are_told_apart() -> None:
    nested = {
        "full_attention": YARN | {"rope_theta": 1e6, ORIGINAL: 512},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    fields = fields_of(rope_parameters=nested)
    full = read_rope(fields, HEAD_DIM, "full_attention")
    assert (full.theta, full.scaling and full.scaling.kind) == (1e6, "yarn")
    assert read_rope(fields, HEAD_DIM, "sliding_attention") == Rope(HEAD_DIM, 1e4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rope_type": "mrope"}, "rope scaling 'mrope' is not supported; default, linear, dyn"),
        ({"rope_type": "linear"}, "factor must be above 0, is None"),
        ({"rope_type": "linear", "factor": "4"}, "factor is '4', not a number"),
        ({"rope_type": "dynamic", "factor": 0.5}, "a factor of 1, at least"),
        ({"rope_type": "llama3"} | LLAMA3 | {"high_freq_factor": 1.0}, "must be above low_freq"),
        (LONGROPE | {"long_factor": None}, "long_factor is no list of numbers"),
        (LONGROPE | {"short_factor": [1.0, 0.0]}, r"short_factor has 0\.0; all must be above 0"),
        (LONGROPE | {"short_factor": [1.0, 2.0]}, "2 rotary factors for 64 rotated dim.*; 32 are"),
        (YARN | {"beta_fast": 1.0, "beta_slow": 2.0}, "beta_fast above beta_slow"),
        (YARN | {"mrope_section": [8, 12, 12]}, "mrope_section is not known"),
        ([4.0], r"rope_scaling is \[4.0\], not an object"),
    ],
)
def test_what_cannot_be_turned_is_said(parameters: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        rope_of(fields_of(rope_scaling=parameters))
