"""The model, end to end inside one process, against transformers' forward of the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.config.rope import RopeScaling
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine
from backend.native import absence, kernels
from backend.quant.weight_format import WeightFormat
from backend.scheduler.sequence import Sequence
from backend.step import Join, PlannedSequence, build_plan
from backend.wire.sampling import SamplingParams
from tests.backend.factories import write_mixed_gguf, write_tiny_gguf, write_tiny_llama
from tests.backend.models.tiny_engine import engine_of, logits_of, run, scheduler_of, sequence
from tests.backend.tp_ranks import run_ranks

PROMPT = [5, 99, 42, 7, 250, 3, 17, 88, 123, 11, 64, 201, 9, 300, 45, 6, 77, 31, 150, 2]


def generate(engine: Engine, sequences: list[Sequence], budget: int = 64) -> dict[int, list[int]]:
    """Run sequences together to their end; seq_id -> output tokens."""
    return run(engine, scheduler_of(engine, budget=budget, max_num_seqs=40), sequences)


def reference_logits(model: Path, prompt: list[int]) -> Tensor:
    from transformers import LlamaForCausalLM

    reference = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.inference_mode():
        logits: Tensor = reference(torch.tensor([prompt])).logits[0]
    return logits


VARIANTS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie": False},
    "biases": {"bias": True},
    "grouped": {"num_heads": 6, "num_kv_heads": 3, "hidden_size": 96, "head_dim": 16},
    "llama3 rotary": {
        "rope_scaling": RopeScaling("llama3", 8.0, 1.0, 4.0, 64),
    },
    "linear rotary": {"rope_scaling": RopeScaling("linear", 4.0)},
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_logits_are_those_of_transformers(variant: str, tmp_path: Path) -> None:
    """fp32 in another order of sums: logits of up to 10 agree to 1e-4."""
    model = write_tiny_llama(tmp_path / "model", **VARIANTS[variant])
    got = logits_of(engine_of(model), PROMPT)
    torch.testing.assert_close(got, reference_logits(model, PROMPT), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_ranks_together_give_the_logits_of_one(size: int, exact: bool, tmp_path: Path) -> None:
    model = write_tiny_llama(
        tmp_path / "model", num_heads=6, num_kv_heads=3, hidden_size=96, head_dim=16,
        intermediate_size=192, tie=False, bias=True,
    )  # fmt: skip
    whole = logits_of(engine_of(model, exact=exact), PROMPT)
    parts = run_ranks(size, lambda tp: logits_of(engine_of(model, tp, exact=exact), PROMPT))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_each_rank_holds_its_shard_only(tmp_path: Path) -> None:
    model = write_tiny_llama(
        tmp_path / "model", num_heads=9, num_kv_heads=3, hidden_size=144, head_dim=16,
        intermediate_size=48 * 32,
    )  # fmt: skip
    whole = engine_of(model).model
    for size in (2, 3):
        ranks = run_ranks(size, lambda tp: engine_of(model, tp).model)
        shared = whole.replicated_bytes
        assert all(rank.replicated_bytes == shared for rank in ranks)
        assert sum(rank.weight_bytes - shared for rank in ranks) == whole.weight_bytes - shared
        even = (whole.weight_bytes - shared) / size
        # One unit of 32 MLP columns in each of two layers is what cannot be evened out.
        unit = 2 * 3 * 32 * 144 * 4
        assert all(abs(rank.weight_bytes - shared - even) <= unit for rank in ranks)


def test_gguf_and_safetensors_give_the_same_logits(tmp_path: Path) -> None:
    directory = write_tiny_llama(tmp_path / "model")
    file = write_tiny_gguf(tmp_path / "model.gguf", directory)
    assert torch.equal(logits_of(engine_of(file), PROMPT), logits_of(engine_of(directory), PROMPT))


MIXTURES = {
    "Q4_K_M": [WeightFormat.Q4_K, WeightFormat.Q4_K, WeightFormat.Q6_K],
    "32 columns": [WeightFormat.Q5_0, WeightFormat.IQ4_NL, WeightFormat.MXFP4, WeightFormat.Q8_0],
    "with minimums": [WeightFormat.Q4_1, WeightFormat.Q5_1, WeightFormat.Q2_K, WeightFormat.Q5_K],
}


@pytest.mark.skipif(kernels is None, reason=absence)
@pytest.mark.pairwise
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("size", [1, 2])
def test_mixed_formats_give_logits_of_what_they_stand_for(
    mixture: str, tie: bool, size: int, level: str, tmp_path: Path
) -> None:
    """int8 activations leave a percent of error in a product, bfloat16 half of one in a state."""
    model = write_mixed_gguf(tmp_path, MIXTURES[mixture], tie=tie, bias=True, vocab_size=331)
    expected = logits_of(engine_of(model, kernels="torch"), PROMPT)
    settings: dict[str, Any] = {"dtype": "bfloat16", "kernels": level, "block_size": 16}
    parts = run_ranks(size, lambda tp: logits_of(engine_of(model, tp, **settings), PROMPT, 16))
    error = torch.cat(parts, dim=-1) - expected
    assert float(error.norm() / expected.norm()) < 0.05


def test_batched_text_is_that_of_transformers_generate(tmp_path: Path) -> None:
    """Chunks, mixed lengths and preemption included: greedy text is that of a plain loop."""
    from transformers import LlamaForCausalLM

    model = write_tiny_llama(tmp_path / "model", seed=3)
    reference = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    prompts = {i: [(7 * i + 3 * j) % 300 + 3 for j in range(3 + 9 * i)] for i in range(6)}
    config = load_config(model)
    block_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4 * 4
    engine = engine_of(model, kv_cache_bytes=30 * block_bytes)
    sequences = [
        sequence(i, prompt, temperature=0.0, max_tokens=25, ignore_eos=True)
        for i, prompt in prompts.items()
    ]
    outputs = generate(engine, sequences, budget=41)
    for i, prompt in prompts.items():
        with torch.inference_mode():
            expected = reference.generate(
                torch.tensor([prompt]), max_new_tokens=25, min_new_tokens=25, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        assert outputs[i] == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "settings",
    [{}, {"exact": True}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "kernels": "torch"},
     {"dtype": "bfloat16", "quantization": "int4"}],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2])
def test_steps_without_read_tokens_leave_keys_and_values(
    size: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    """A prompt alone, cut into chunks; the text is that of the prompt in one piece."""
    model = write_tiny_llama(tmp_path / "model", seed=3)
    prompt = [(7 * j) % 300 + 3 for j in range(100)]

    def work(tp: TensorParallel) -> list[list[int]]:
        return [
            generate(
                engine_of(model, tp, **settings),
                [sequence(0, prompt, temperature=0.0, max_tokens=8, ignore_eos=True)],
                budget,
            )[0]
            for budget in (41, 128)
        ]

    for in_chunks, whole in run_ranks(size, work):
        assert in_chunks == whole


def test_prompt_scores_are_transformers_log_softmax(tmp_path: Path) -> None:
    """In chunks, beside a decoding neighbour; fp32: 1e-4."""
    model = write_tiny_llama(tmp_path / "model")
    prompt = [(13 * j) % 300 + 3 for j in range(90)]
    expected = reference_logits(model, prompt).double().log_softmax(-1)
    engine = engine_of(model, max_num_seqs=8)
    scheduler = scheduler_of(engine, budget=37)
    scheduler.add(sequence(1, PROMPT, max_tokens=30, ignore_eos=True))
    scheduler.add(sequence(2, prompt, max_tokens=1, prompt_logprobs=3))
    scores = []
    while (plan := scheduler.schedule()) is not None:
        result = engine.runner.run(plan)
        outputs = scheduler.commit(plan, result.token_ids, result.logprobs, result.prompt_logprobs)
        scores += [score for _, output in outputs for score in output.prompt_logprobs]
    assert len(scores) == 89
    for position, score in enumerate(scores):
        row = expected[position]
        assert score.logprob == pytest.approx(float(row[prompt[position + 1]]), abs=1e-4)
        assert [p for _, p in score.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_exact_text_does_not_depend_on_the_batch(dtype: str, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model", seed=5)
    prompt = [(11 * j) % 300 + 3 for j in range(70)]
    mine = dict(temperature=1.5, max_tokens=30, seed=9, ignore_eos=True)
    alone = generate(engine_of(model, dtype=dtype, exact=True), [sequence(0, prompt, **mine)])[0]

    others = [
        sequence(i, [(i * j) % 300 + 3 for j in range(1, 2 + 3 * i)],
                 temperature=1.0, max_tokens=4 + i % 9, seed=i, top_p=0.9 if i % 2 else 1.0)
        for i in range(1, 31)
    ]  # fmt: skip
    crowd = [*others[:15], sequence(0, prompt, **mine), *others[15:]]
    engine = engine_of(model, dtype=dtype, exact=True, kv_cache_bytes=1 << 22)
    assert generate(engine, crowd, budget=50)[0] == alone


def test_missing_and_a_leftover_tensor_are_named(tmp_path: Path) -> None:
    import safetensors.torch

    model = write_tiny_llama(tmp_path / "model")
    file = model / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    norm = tensors.pop("model.norm.weight")
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no tensor model\.norm\.weight"):
        engine_of(model)
    tensors |= {"model.norm.weight": norm, "model.surprise.weight": norm.clone()}
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"does not use: model\.surprise\.weight"):
        engine_of(model)


def test_too_little_memory_for_one_block_says_how_much_is_needed(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model")
    with pytest.raises(ModelError, match=r"one block of 4 tokens needs 2,048 bytes, 100 are free"):
        engine_of(model, kv_cache_bytes=100)


@pytest.mark.parametrize("ops", ["torch", "exact", "native"])
def test_what_a_sequence_leaves_in_its_blocks_spoils_nobody(tmp_path: Path, ops: str) -> None:
    """Neither a prompt that was given up half way nor one that still runs: block 0, which others'
    tables were padded with, is as bad as the rest."""
    if ops == "native" and kernels is None:
        pytest.skip(absence)
    block_size = 16 if ops == "native" else 4
    engine = engine_of(
        write_tiny_llama(tmp_path / "tiny", head_dim=32 if ops == "native" else 8),
        exact=ops == "exact",
        kernels="native" if ops == "native" else "torch",
        dtype="bfloat16" if ops == "native" else "float32",
        block_size=block_size,
    )
    params = SamplingParams(temperature=0.0)
    sequences = [([3, 1, 4, 1, 5], [6, 9, 2]), (PROMPT, [5, 4, 3, 7, 8, 1])]

    def planned(tokens: list[int], start: int, row: int) -> PlannedSequence:
        num_blocks = -(-(start + len(tokens)) // block_size)
        table = sequences[row][1][:num_blocks]
        return PlannedSequence(
            tokens, start, table, row, max(0, start - len(sequences[row][0]) + 1)
        )

    def answers() -> list[list[int]]:
        joins = [Join(row, params) for row in range(2)]
        prompts = [planned(prompt, 0, row) for row, (prompt, _) in enumerate(sequences)]
        drawn = [engine.runner.run(build_plan(1, prompts, joins, block_size)).token_ids]
        for step in range(4):
            decodes = [
                planned([drawn[-1][row]], len(prompt) + step, row)
                for row, (prompt, _) in enumerate(sequences)
            ]
            plan = build_plan(step + 2, decodes, [], block_size)
            drawn.append(engine.runner.run(plan).token_ids)
        return drawn

    expected = answers()
    engine.runner._kv_cache.data[:] = torch.nan
    assert answers() == expected
    assert all(token_id >= 0 for step in expected for token_id in step)
