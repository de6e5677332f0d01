"""Attention of encoder-decoders in Triton, against PyTorch's in fp32 over the same numbers."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine import platform
from backend.engine.device_runner import DeviceRunner
from backend.ops.batch import AttentionSpec, Batch
from backend.ops.kv_cache import SCALE_BYTES
from backend.ops.reference import ReferenceOps
from backend.ops.score_bias import ScoreBias
from backend.ops.triton import decode_attention
from backend.ops.triton.triton_ops import TritonOps
from backend.placement.decode_sizes import DecodeSizes
from backend.sampling.sampler import Sampler
from backend.scheduler.sequence import Sequence
from backend.step import PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams
from tests.backend.engine.host_queue import HostQueue
from tests.backend.models.tiny_engine import engine_of, run, scheduler_of
from tests.backend.models.tiny_t5 import CASES, TinyT5, input_of
from tests.backend.ops.triton.test_triton_ops import DEVICE, randn

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

SIZE = 8
SPEC = AttentionSpec(scale=0.7)


def planned(sequences: list[tuple[int, int, int]]) -> tuple[StepPlan, int]:
    """sequences: of each its input's length, tokens that run, and those before; the encoder runs
    where there are none. Returns the plan, and the blocks it needs."""
    parts, used = [], 0
    for given_length, count, start in sorted(sequences, key=lambda each: each[1] != 1):
        own, cross = -(-(start + count) // SIZE), -(-given_length // SIZE)
        tables = [*range(used + own + cross - 1, used - 1, -1)]
        used += own + cross
        parts.append(
            PlannedSequence(
                [1] * count,
                start,
                tables[:own],
                0,
                0,
                cross_table=tables[own:],
                num_encoder_tokens=given_length,
                encoder_ids=[] if start else [1] * given_length,
            )
        )
    return build_plan(1, parts, [], SIZE), used


def check(
    sequences: list[tuple[int, int, int]],
    heads: int = 2,
    dim: int = 16,
    dtype: torch.dtype = torch.float32,
) -> None:
    """All of a step: inputs to themselves, kept; tokens to their own; tokens to what was kept."""
    plan, num_blocks = planned(sequences)
    batch = Batch.from_plan(plan, DEVICE)
    cache = randn(num_blocks, 2, heads, SIZE, dim, dtype=dtype)
    of_inputs, of_tokens = randn(heads, 25, seed=1, dtype=dtype), randn(heads, 13, dtype=dtype)
    biases = ScoreBias(of_inputs, -12), ScoreBias(of_tokens, -12)
    inputs = randn(len(plan.encoder_ids), 3 * heads, dim, seed=2, dtype=dtype)
    kept = randn(len(plan.encoder_ids), 2 * heads, dim, seed=3, dtype=dtype)
    tokens = randn(plan.num_tokens, 3 * heads, dim, seed=4, dtype=dtype)
    queries = randn(plan.num_tokens, heads + 1, dim, seed=5, dtype=dtype)[:, :heads]
    results = []
    for ops, kind in ((TritonOps(), dtype), (ReferenceOps(), torch.float32)):
        own = cache.to(kind)
        step = ops.plan_encoder_decoder(batch, own, heads, SPEC)
        wide = [ScoreBias(bias.numbers.to(kind), bias.least) for bias in biases]
        out = []
        if len(inputs):
            out.append(step.encode(inputs.to(kind), wide[0]))
            step.keep(kept.to(kind), own)
        out.append(step.decode(tokens.to(kind), own, wide[1]))
        out.append(step.cross(queries.to(kind), own))
        results.append([each.float() for each in (*out, own)])
    tolerance = 1e-5 if dtype == torch.float32 else 2**-6
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 7, 66]), st.sampled_from([1, 1, 3])).flatmap(
            lambda each: st.tuples(st.just(each[0]), st.just(each[1]), st.sampled_from([0, 5, 30]))
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=5, deadline=None)
def test_attention_of_encoder_decoders_is_pytorchs(sequences: list[tuple[int, int, int]]) -> None:
    check(sequences)


@pytest.mark.parametrize(("heads", "dim"), [(1, 64), (6, 8)])
def test_attention_of_other_heads(heads: int, dim: int) -> None:
    check([(20, 1, 0), (9, 1, 40), (4, 3, 3)], heads, dim, torch.bfloat16)


def test_long_inputs_are_split_and_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_attention, "LOT", 2)
    check([(700, 1, 3), (5, 1, 600)], 1)


@pytest.mark.parametrize("kept_as", [torch.int8, torch.uint8])
def test_keys_of_8_bits_are_read_as_they_were_written(kept_as: torch.dtype) -> None:
    """What was kept is off by half a step of its scale, so results are near."""
    plan, num_blocks = planned([(9, 1, 0), (2, 1, 0)])
    batch = Batch.from_plan(plan, DEVICE)
    cache = torch.zeros(num_blocks, 2, 2, SIZE, 16 + SCALE_BYTES, dtype=kept_as, device=DEVICE)
    wide = torch.zeros(num_blocks, 2, 2, SIZE, 16, device=DEVICE)
    kept, queries = randn(11, 4, 16).float(), randn(2, 2, 16, seed=1).float()
    ours = TritonOps().plan_encoder_decoder(batch, cache, 2, SPEC)
    theirs = ReferenceOps().plan_encoder_decoder(batch, wide, 2, SPEC)
    ours.keep(kept, cache)
    theirs.keep(kept, wide)
    found, expected = ours.cross(queries, cache), theirs.cross(queries, wide)
    bound = 0.05 if kept_as == torch.int8 else 0.2
    assert 0 < float((found - expected).abs().max()) < bound


def test_padding_rows_of_encoder_decoders_write_nothing() -> None:
    plan, num_blocks = planned([(5, 1, 3), (40, 1, 9)])
    batch = Batch.from_plan(plan, DEVICE)
    assert batch.cross is not None
    batch.slot_mapping[1:] = -1
    batch.lens[1:] = 0
    batch.cross.lens[1:] = 0
    cache = torch.zeros(num_blocks, 2, 2, SIZE, 16, device=DEVICE)
    step = TritonOps().plan_encoder_decoder(batch, cache, 2, SPEC)
    bias = ScoreBias(torch.zeros(2, 13, device=DEVICE), -12)
    out = step.decode(torch.ones(2, 6, 16, device=DEVICE), cache, bias)
    assert cache.any(-1).sum() == 4  # two keys and two values
    assert not out[1].any() and not step.cross(out, cache)[1].any()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("flan", {"num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}),
        pytest.param("umt5", {}, marks=pytest.mark.slow),
    ],
)
def test_text_over_graphs_is_transformers(
    name: str, sizes: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole models: inputs of several lengths, one of which joins while another decodes."""
    monkeypatch.setattr(platform, "_select_ops", lambda *_: TritonOps())
    case = dataclasses.replace(CASES[name], fields=CASES[name].fields | sizes)
    model = TinyT5(case, tmp_path / "model")
    engine = engine_of(model.path, device="auto", max_num_seqs=2, max_model_len=64)
    queue = HostQueue()
    runner = DeviceRunner(
        engine.model,
        engine.runner._kv_cache,
        Sampler(2, slice(0, engine.config.vocab_size), TensorParallel(), ()),
        queue,
        max_num_seqs=2,
        sizes=DecodeSizes((2,), (64,)),
        clears_blocks=False,
    )
    runner.warm_up(4)
    inputs = [input_of(3), input_of(12, 7)]
    told = SamplingParams(temperature=0.0, max_tokens=4, stop_token_ids=(1,))
    sequences = [Sequence((0, n), [0], 1, told, encoder_ids=ids) for n, ids in enumerate(inputs)]
    scheduler = scheduler_of(engine, budget=6, max_num_seqs=2)
    outputs = run(dataclasses.replace(engine, runner=runner), scheduler, sequences)
    assert outputs == {n: model.generate(ids, 4) for n, ids in enumerate(inputs)}
    assert queue.num_replays >= 3
