"""Models that transformers' modelling code runs here, against its own forward of the same weights.

A class per way of being unlike Llama: layer norms, one stream for attention and MLP, logits scaled,
no rotation in some layers, windows, fused projections, norms of heads, biases, experts in stacks.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.models.foreign_model import ForeignModel
from backend.native import absence, kernels
from backend.ops.batch import Batch
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.settings import EngineSettings
from backend.step import PlannedSequence, build_plan
from backend.wire.control import Budget
from backend.wire.sampling import SamplingParams
from tests.backend.factories import write_tiny_gguf, write_tiny_llama
from tests.backend.foreign_models import reference_logits, write_foreign
from tests.backend.tp_ranks import run_ranks

PROMPT = [5, 99, 42, 7, 250, 3, 17, 88, 123, 11, 64, 201, 9, 300, 45, 6, 77, 31, 150, 2]
BLOCK = 4

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "cohere": ("CohereForCausalLM", {"logit_scale": 0.25}),
    "cohere, norms of queries and keys": ("CohereForCausalLM", {"use_qk_norm": True}),
    "cohere2": ("Cohere2ForCausalLM", {"sliding_window": 6, "num_hidden_layers": 4}),
    "exaone4": ("Exaone4ForCausalLM", {"sliding_window": 5, "num_hidden_layers": 4}),
    "bitnet": ("BitNetForCausalLM", {}),
    "stablelm": ("StableLmForCausalLM", {"head_dim": None}),
    "glm4": ("Glm4ForCausalLM", {}),
    "nemotron": ("NemotronForCausalLM", {}),
    "phi": ("PhiForCausalLM", {"head_dim": None}),
    "helium": ("HeliumForCausalLM", {}),
    "seed_oss": ("SeedOssForCausalLM", {"attention_bias": True}),
    "hunyuan": ("HunYuanDenseV1ForCausalLM", {}),
    "ernie4_5": ("Ernie4_5ForCausalLM", {"use_bias": True}),
    "apertus": ("ApertusForCausalLM", {}),
    "gpt_oss": ("GptOssForCausalLM", {"num_local_experts": 4, "sliding_window": 6}),
    "glm4_moe": (
        "Glm4MoeForCausalLM",
        {"n_routed_experts": 8, "moe_intermediate_size": 32, "num_experts_per_tok": 2},
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", {"num_key_value_heads": None, "head_dim": None}),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", {"num_key_value_heads": None, "head_dim": None}),
}
# Whose heads or norms are cut in no way that is known here.
WHOLE = ("cohere, norms of queries and keys", "gpt_neox", "gpt_bigcode", "bitnet")


def engine_of(model: Path, tp: TensorParallel | None = None, **settings: Any) -> Engine:
    defaults = {"device": "cpu", "dtype": "float32", "block_size": BLOCK, "kv_cache_bytes": 1 << 22}
    group = tp or TensorParallel()
    told = EngineSettings(model=str(model), tp=group.size, **{**defaults, **settings})
    return build_engine(told, group, lambda phase, fraction: None)


def logits_of(engine: Engine, prompt: list[int], chunks: tuple[int, ...] = (20,)) -> Tensor:
    """Logits after each token of the prompt, run in chunks of these sizes, [T, V of this rank]."""
    size = BLOCK
    width = len(prompt) // size + 1
    table, *others = ([*range(g * width, (g + 1) * width)] for g in range(len(engine.groups)))
    parts, done = [], 0
    for chunk in chunks:
        planned = PlannedSequence(
            prompt[done : done + chunk], done, table, 0, 0, more_tables=others
        )
        batch = Batch.from_plan(build_plan(1, [planned], [], size), engine.device)
        batch.output_tokens = torch.arange(chunk)
        with torch.inference_mode():
            hidden = engine.model.forward(batch, engine.runner._kv_cache)
            parts.append(engine.model.logits(hidden))
        done += chunk
    assert done == len(prompt)
    return torch.cat(parts)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    """Whole, and in chunks and decodes: float32 in another order of sums."""
    architecture, fields = FAMILIES[family]
    model = write_foreign(tmp_path / "model", architecture, **fields)
    expected = reference_logits(model, architecture, PROMPT)
    engine = engine_of(model, model_impl="transformers")
    assert isinstance(engine.model, ForeignModel)
    assert engine.config.foreign is not None and engine.config.foreign.unread == ()
    for chunks in ((20,), (9, 1, 1, 8, 1)):
        got = logits_of(engine, PROMPT, chunks)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        hidden = torch.randn(3, engine.config.hidden_size)
        values, ids = engine.model.argmax(hidden)
        best = engine.model.logits(hidden).max(-1)
    assert torch.equal(ids, best.indices)
    torch.testing.assert_close(values, best.values)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WHOLE])
def test_ranks_share_it_unevenly(family: str, size: int, tmp_path: Path) -> None:
    architecture, fields = FAMILIES[family]
    model = write_foreign(tmp_path / "model", architecture, **fields)
    expected = reference_logits(model, architecture, PROMPT)

    def work(tp: TensorParallel) -> Tensor:
        return logits_of(engine_of(model, tp, model_impl="transformers"), PROMPT, (12, 1, 7))

    got = torch.cat(run_ranks(size, work), dim=1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", WHOLE[:2])
def test_what_ranks_cannot_share_says_so(family: str, tmp_path: Path) -> None:
    architecture, fields = FAMILIES[family]
    model = write_foreign(tmp_path / "model", architecture, **fields)

    with pytest.raises(ModelError, match=r"--tp 2: .* cannot be cut by heads"):
        run_ranks(2, lambda tp: engine_of(model, tp, model_impl="transformers"))


def test_prefix_is_computed_once(tmp_path: Path) -> None:
    model = write_foreign(
        tmp_path / "model", "Cohere2ForCausalLM", sliding_window=6, num_hidden_layers=4
    )
    engine = engine_of(model, model_impl="transformers")
    scheduler = Scheduler(
        BlockPool(engine.num_blocks, BLOCK), max_num_seqs=4, max_num_batched_tokens=64,
        max_model_len=engine.max_model_len, vocab_size=320, groups=engine.groups,
    )  # fmt: skip
    runs = []
    for number, prompt in enumerate(([*PROMPT, 8, 9], [*PROMPT, 8, 9])):
        params = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True)
        scheduler.add(Sequence((0, number), prompt, len(prompt), params))
        tokens: list[int] = []
        ran = []
        while (plan := scheduler.schedule()) is not None:
            ran.append(len(plan.input_ids))
            result = engine.runner.run(plan)
            for _, output in scheduler.commit(plan, result.token_ids):
                tokens += output.token_ids
        runs.append((ran, tokens))
    (first, tokens), (second, again) = runs
    assert first[0] == 22 and second[0] <= 22 - 4 * BLOCK
    assert tokens == again
    for count in range(len(tokens)):
        prompt = [*PROMPT, 8, 9, *tokens[:count]]
        logits = reference_logits(model, "Cohere2ForCausalLM", prompt)
        assert int(logits[-1].argmax()) == tokens[count]


def test_llama_serves_either_way(tmp_path: Path) -> None:
    """Ours by default; the same numbers by transformers' code, from a tied head as well."""
    for tie in (True, False):
        model = write_tiny_llama(tmp_path / str(tie), tie=tie, bias=True)
        own, theirs = engine_of(model), engine_of(model, model_impl="transformers")
        assert not isinstance(own.model, ForeignModel)
        assert isinstance(theirs.model, ForeignModel)
        torch.testing.assert_close(
            logits_of(theirs, PROMPT), logits_of(own, PROMPT), rtol=1e-4, atol=1e-4
        )
        assert theirs.model.weight_bytes == own.model.weight_bytes


def test_fields_that_the_class_does_not_read_are_named(tmp_path: Path) -> None:
    """transformers keeps them, and computes as if they were not there."""
    model = write_foreign(tmp_path / "model", "ApertusForCausalLM")
    path = model / "config.json"
    fields = json.loads(path.read_text())
    more = {"scale_depth": 1.4, "pretraining_tp": 1, "sliding_window": None, "rope_theta": 1e4}
    path.write_text(json.dumps(fields | more))
    settings = EngineSettings(model=str(model), device="cpu", dtype="float32", block_size=BLOCK)
    budgets: list[Budget] = []
    build_engine(settings, TensorParallel(), lambda phase, fraction: None, budgets.append)
    [note] = [note for budget in budgets for note in budget.notes]
    assert "ApertusForCausalLM does not read scale_depth of config.json" in note


NATIVE: dict[str, tuple[dict[str, Any], float]] = {
    "bfloat16": ({}, 0.02),
    "keys and values in 8 bits": ({"kv_cache_dtype": "int8"}, 0.03),
    # Activations are rounded to 8 bits, too, but for a row's large groups: 0.036 was seen.
    "weights in 8 bits": ({"quantization": "int8"}, 0.05),
}


@pytest.mark.skipif(kernels is None, reason=absence)
@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("family", ["llama", "bitnet", "gpt_oss"])
def test_our_kernels_serve_it(family: str, kind: str, tmp_path: Path) -> None:
    """bfloat16 leaves half a percent of error in a state."""
    settings, tolerance = NATIVE[kind]
    architecture, fields = FAMILIES[family]
    model = write_foreign(tmp_path / "model", architecture, **fields)
    expected = reference_logits(model, architecture, PROMPT)
    engine = engine_of(
        model, model_impl="transformers", dtype="bfloat16", block_size=16, **settings
    )
    table = [0, 1]
    planned = PlannedSequence(
        PROMPT, 0, table, 0, 0, more_tables=[[2, 3]] * (len(engine.groups) - 1)
    )
    batch = Batch.from_plan(build_plan(1, [planned], [], 16), engine.device)
    batch.output_tokens = torch.arange(len(PROMPT))
    with torch.inference_mode():
        got = engine.model.logits(engine.model.forward(batch, engine.runner._kv_cache))
    error = (got - expected).norm() / expected.norm()
    assert error < tolerance


def test_head_of_its_own_counts_beside_a_tied_one(tmp_path: Path) -> None:
    """tie_word_embeddings is cohere's default; a file with another head means that head."""
    import safetensors.torch

    model = write_foreign(tmp_path / "model", "CohereForCausalLM", logit_scale=1.0)
    tied = logits_of(engine_of(model, model_impl="transformers"), PROMPT)
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = 2 * tensors["model.embed_tokens.weight"]
    safetensors.torch.save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    untied = logits_of(engine_of(model, model_impl="transformers"), PROMPT)
    torch.testing.assert_close(untied, 2 * tied)


def test_what_cannot_be_served_is_refused_with_what_would(tmp_path: Path) -> None:
    model = write_foreign(tmp_path / "model", "ApertusForCausalLM")
    config = (model / "config.json").read_text()

    def refusal(architecture: str, *, more: str = "{") -> str:
        changed = config.replace("ApertusForCausalLM", architecture).replace("{", more, 1)
        (model / "config.json").write_text(changed)
        with pytest.raises(ModelError) as caught:
            engine_of(model)
        assert 1 <= len(str(caught.value).splitlines()) <= 3
        return str(caught.value)

    assert "GGUF" in refusal("MambaForCausalLM")
    assert "state of its own" in refusal("MambaForCausalLM")
    assert "not known to transformers" in refusal("NobodysForCausalLM")
    auto_map = '{"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"},'
    (model / "modeling_evil.py").write_text("raise SystemExit('ran')")
    assert "never run" in refusal("EvilForCausalLM", more=auto_map)
    encoder = '{"is_encoder_decoder": true,'
    assert "an encoder and a decoder" in refusal("ApertusForCausalLM", more=encoder)
    dynamic = '{"rope_scaling": {"rope_type": "dynamic", "factor": 2.0},'
    no_rope = config.replace('"rope_parameters"', '"unused"')
    config = no_rope
    assert "longest sequence of a batch" in refusal("ApertusForCausalLM", more=dynamic)


def test_tensors_that_do_not_fit_the_class_are_refused(tmp_path: Path) -> None:
    import safetensors.torch

    model = write_foreign(tmp_path / "model", "SmolLM3ForCausalLM")
    file = model / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    norm = "model.layers.1.input_layernorm.weight"
    for changed, words in (
        ({norm: None}, f"has no tensor {norm}"),
        ({norm: torch.ones(95)}, r"shape \[95\]"),
        ({"model.layers.1.extra.weight": torch.ones(3)}, r"extra\.weight\n.*perhaps a GGUF"),
    ):
        kept = {name: t for name, t in (tensors | changed).items() if t is not None}
        safetensors.torch.save_file(kept, file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=words):
            engine_of(model, model_impl="transformers")


def test_gguf_files_are_not_for_it(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "m.gguf", write_tiny_llama(tmp_path / "model"))
    with pytest.raises(ModelError, match="serves directories, not GGUF files"):
        load_config(file, "transformers")
