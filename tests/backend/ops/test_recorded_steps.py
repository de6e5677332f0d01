"""Decodes that are replayed in C: the bytes that they have call by call."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.engine.engine import Engine
from backend.models.decoder import Decoder
from backend.native import absence, kernels, levels
from backend.ops.batch import Batch
from backend.ops.recorded_steps import RecordedSteps
from backend.step import PlannedSequence, StepPlan, build_plan
from tests.backend.models.delta_cases import DELTA, DELTA_EXPERTS
from tests.backend.models.family_cases import FamilyCase, TinyModel
from tests.backend.models.gemma4_cases import LARGE, MIXTURE, SMALL
from tests.backend.models.latent_cases import LATENT
from tests.backend.models.mamba_cases import LONG_MAMBAS
from tests.backend.models.state_cases import LONG
from tests.backend.models.test_own_kernels import _GPT, _SIZES
from tests.backend.models.tiny_engine import engine_of
from tests.backend.quantized_layouts import LAYOUTS, write_quantized_llama

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(kernels is None, reason=absence),
]

BLOCK_SIZE = 16
_PLAIN: dict[str, Any] = {
    name: value
    for name, value in _SIZES.items()
    if name not in ("sliding_window", "query_pre_attn_scalar")
} | {"max_position_embeddings": 4096}
_GEMMA = _SIZES | {"max_position_embeddings": 4096}


def _longer(case: FamilyCase) -> FamilyCase:
    return replace(case, fields=case.fields | {"max_position_embeddings": 4096})


def _latent(name: str) -> FamilyCase:
    return _longer(replace(LATENT[name], fields=LATENT[name].fields | {"hidden_size": 96}))


_HEADS = {"head_dim": 16, "global_head_dim": 32, "sliding_window": 41}
_EXPERTS = _PLAIN | {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 96}
_NEOX = _GPT | {"intermediate_size": 96, "max_position_embeddings": 4096}
# Biases; norms of queries and keys; windows that are shorter than contexts, and softcaps, norms
# around, gates by tanh; two kinds of layers and ropes; a part of each head that turns. LayerNorm,
# gelu and layers side by side; multipliers. Experts with a shared one and its gate, and by groups
# with a correction; sinks. Delta nets, state spaces beside attention, short convolutions. What
# layers are told of each token, and layers that see the keys of others. Norms of all heads as one,
# and of such as have turned; queries that are scaled by their positions.
RECORDED = {
    "llama": FamilyCase("LlamaForCausalLM", _PLAIN, is_whole=True),
    "qwen2": FamilyCase("Qwen2ForCausalLM", _PLAIN, is_whole=True),
    "qwen3": FamilyCase("Qwen3ForCausalLM", _PLAIN, is_whole=True),
    "mistral": FamilyCase("MistralForCausalLM", _PLAIN | {"sliding_window": 41}, is_whole=True),
    "gemma2": FamilyCase(
        "Gemma2ForCausalLM",
        _GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        is_whole=True,
    ),
    "gemma3": FamilyCase("Gemma3ForCausalLM", _GEMMA | {"num_hidden_layers": 6}, is_whole=True),
    "gpt_neox": FamilyCase("GPTNeoXForCausalLM", _NEOX, is_whole=True),
    "granite": FamilyCase(
        "GraniteForCausalLM", _PLAIN | {"residual_multiplier": 0.3}, is_whole=True
    ),
    "qwen2_moe": FamilyCase(
        "Qwen2MoeForCausalLM",
        _EXPERTS | {"shared_expert_intermediate_size": 64},
        is_whole=True,
    ),
    "glm4_moe": FamilyCase(
        "Glm4MoeForCausalLM",
        _EXPERTS
        | {"n_routed_experts": 6, "n_group": 3, "topk_group": 2, "first_k_dense_replace": 1},
        is_whole=True,
    ),
    "gpt_oss": FamilyCase(
        "GptOssForCausalLM",
        _PLAIN | {"num_local_experts": 6, "sliding_window": 41, "intermediate_size": 64},
        is_whole=True,
    ),
    "qwen3_5": _longer(FamilyCase("Qwen3_5ForCausalLM", _PLAIN | DELTA)),
    "qwen3_5_moe": _longer(FamilyCase("Qwen3_5MoeForCausalLM", _PLAIN | DELTA | DELTA_EXPERTS)),
    "gemma4": FamilyCase(
        "Gemma4ForCausalLM",
        _PLAIN | SMALL | _HEADS | {"hidden_size_per_layer_input": 32},
        is_whole=True,
    ),
    # Layers that take keys for values, and others; experts beside an MLP.
    "gemma4, large": FamilyCase("Gemma4ForCausalLM", _PLAIN | LARGE | _HEADS, is_whole=True),
    "gemma4, mixture": FamilyCase(
        "Gemma4ForCausalLM",
        _PLAIN | MIXTURE | _HEADS | {"num_global_key_value_heads": 2},
        is_whole=True,
    ),
    "cohere": FamilyCase("CohereForCausalLM", _PLAIN | {"use_qk_norm": True}, is_whole=True),
    # Compressed keys: that turn as neighbours and as halves, with and without such queries; queries
    # that are scaled by positions.
    "deepseek_v3": _latent("deepseek_v3"),
    "deepseek_v3, halves and biases": _latent("deepseek_v3, halves and biases"),
    "deepseek_v2, lite": _latent("deepseek_v2, lite"),
    "glm4_moe_lite": _latent("glm4_moe_lite"),
    "mistral4": _latent("mistral4"),
    "falcon_h1": _longer(LONG_MAMBAS["falcon_h1"]),
    "nemotron_h": _longer(LONG_MAMBAS["nemotron_h"]),
    "lfm2": _longer(LONG["lfm2"]),
    "olmo2": FamilyCase("Olmo2ForCausalLM", _PLAIN, is_whole=True),
    # A window in three layers of four.
    "olmo3": FamilyCase(
        "Olmo3ForCausalLM",
        _PLAIN | {"num_hidden_layers": 4, "sliding_window": 41},
        is_whole=True,
    ),
    "minimax_m2": FamilyCase(
        "MiniMaxM2ForCausalLM",
        _PLAIN
        | {
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "partial_rotary_factor": 0.5,
            },
        },
        is_whole=True,
    ),
    "olmoe": FamilyCase(
        "OlmoeForCausalLM",
        _PLAIN | {"num_experts": 6, "num_experts_per_tok": 3},
        is_whole=True,
    ),
    "hunyuan": FamilyCase("HunYuanDenseV1ForCausalLM", _PLAIN, is_whole=True),
    # Queries are scaled from position 64 on.
    "ministral3": FamilyCase(
        "Ministral3ForCausalLM",
        _PLAIN
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 64.0,
                "original_max_position_embeddings": 64,
                "llama_4_scaling_beta": 0.1,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            }
        },
        is_whole=True,
    ),
}
CALL_BY_CALL = {
    "qwen3": (
        FamilyCase("Qwen3ForCausalLM", _PLAIN | {"hidden_size": 80}, is_whole=True),
        "aten.pad",
    ),
}


@dataclass(slots=True)
class Pair:
    """The same rank twice, with the same keys and values: call by call, and recorded."""

    plain: Engine
    recorded: Engine

    @classmethod
    def of(cls, path: Path, level: str, **settings: Any) -> "Pair":
        plain, recorded = (
            engine_of(
                path,
                dtype="bfloat16",
                kernels=level,
                block_size=BLOCK_SIZE,
                kv_cache_bytes=1 << 23,
                enforce_eager=is_plain,
                **settings,
            )
            for is_plain in (True, False)
        )
        cache = cache_of(plain)
        generator = torch.Generator().manual_seed(1)
        if cache.dtype == torch.bfloat16:
            cache.copy_(torch.randn(cache.shape, generator=generator))
        cache_of(recorded).copy_(cache)
        for state, other in zip(*map(states_of, (plain, recorded)), strict=True):
            state.copy_(torch.randn(state.shape, generator=generator))
            other.copy_(state)
        return cls(plain, recorded)

    def step(self, plan: StepPlan) -> None:
        """Run a plan on both, and compare logits, best tokens, keys and values, and states."""
        first, second = (self._run(engine, plan) for engine in (self.plain, self.recorded))
        for part, other in zip(first, second, strict=True):
            assert part.numpy().tobytes() == other.numpy().tobytes()
        caches = [cache_of(engine).view(torch.int8) for engine in (self.plain, self.recorded)]
        assert torch.equal(*caches)
        for state, other in zip(*map(states_of, (self.plain, self.recorded)), strict=True):
            assert torch.equal(state, other)

    @staticmethod
    @torch.inference_mode()
    def _run(engine: Engine, plan: StepPlan) -> list[Tensor]:
        batch = Batch.from_plan(plan, engine.device)
        hidden = engine.model.forward(batch, engine.runner._kv_cache)
        logits = engine.model.logits(hidden)
        assert logits.isfinite().all()
        return [logits, *engine.model.argmax(hidden)]


def cache_of(engine: Engine) -> Tensor:
    return engine.runner._kv_cache.data


def states_of(engine: Engine) -> list[Tensor]:
    states = engine.runner._kv_cache.states
    return [state for index in range(engine.config.num_layers) for state in states.layer(index)]


def recorded_steps(engine: Engine) -> RecordedSteps | None:
    assert isinstance(engine.model, Decoder)
    (passes,) = engine.model._passes.values()
    return passes.recorded


def decodes(engine: Engine, lens: list[int], step: int, max_blocks: int = 8) -> StepPlan:
    """Plan one token of each sequence, behind so many. States come from other slots than they go
    to, or from zeros."""
    num_groups = max(1, len(engine.groups))
    assert 2 * len(lens) <= engine.num_slots or not engine.num_slots
    sequences = []
    for row, length in enumerate(lens):
        first, *others = (
            [((g * len(lens) + row) * max_blocks + b) for b in range(max_blocks)]
            for g in range(num_groups)
        )
        assert max(first[-1], *(o[-1] for o in others), 0) < engine.num_blocks
        token = (5 * row + 3 * step) % 90
        segments = []
        if engine.num_slots:
            read = 2 * row + step % 2 if (row + step) % 5 else -1
            segments = [(1, read, 2 * row + (step // 2) % 2)]
        sequences.append(
            PlannedSequence(
                [token],
                length,
                first,
                row,
                step,
                more_tables=others,
                state_segments=segments,
            )
        )
    return build_plan(step, sequences, [], BLOCK_SIZE)


@pytest.fixture(scope="module", params=sorted(RECORDED))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return TinyModel(RECORDED[request.param], tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def best_level() -> Iterator[None]:
    yield
    if kernels is not None:
        kernels.use(levels()[0])


def test_replayed_decodes_have_the_bytes_of_calls(tiny: TinyModel) -> None:
    check_replays(Pair.of(tiny.path, "auto"))


@pytest.mark.parametrize("level", levels()[1:])
def test_every_level_replays(level: str, tmp_path: Path) -> None:
    check_replays(Pair.of(TinyModel(RECORDED["gemma3"], tmp_path).path, level))


def test_columns_in_any_order_are_replayed(tmp_path: Path) -> None:
    layout = LAYOUTS["gptq, columns in any order"]
    model = write_quantized_llama(tmp_path, layout, head_dim=16).directory
    check_replays(Pair.of(model, "auto"))


def check_replays(pair: Pair) -> None:
    for step, rows in enumerate((1, 2, 7, 16, 64, 1, 3)):
        lens = [(37 * row + 11 * step) % 120 for row in range(rows)]
        pair.step(decodes(pair.recorded, lens, step))
    recorded = recorded_steps(pair.recorded)
    assert recorded is not None and recorded.is_for_any_rows and not recorded.obstacle
    assert recorded_steps(pair.plain) is None


@pytest.mark.parametrize("tiny", ["gemma2", "gpt_oss", "qwen3", "qwen3_5"], indirect=True)
def test_long_contexts_and_8_bits_are_replayed(tiny: TinyModel) -> None:
    """Attention of more than one piece of keys, whose results are merged."""
    for dtype in ("auto", "int8"):
        pair = Pair.of(tiny.path, "auto", kv_cache_dtype=dtype)
        for step, lens in enumerate([[1030], [5, 2100], [1023, 1024, 7], [2047]]):
            pair.step(decodes(pair.recorded, lens, step, max_blocks=132))


@pytest.mark.parametrize("name", sorted(CALL_BY_CALL))
def test_model_that_pytorch_computes_runs_call_by_call(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case, reason = CALL_BY_CALL[name]
    with caplog.at_level("INFO"):
        pair = Pair.of(TinyModel(case, tmp_path).path, "auto")
    for step, rows in enumerate((1, 2, 7)):
        pair.step(decodes(pair.recorded, [*range(3, 3 + rows)], step))
    recorded = recorded_steps(pair.recorded)
    assert recorded is not None and reason in recorded.obstacle and reason in caplog.text


def test_other_steps_between_decodes_are_not_replayed(tmp_path: Path) -> None:
    """Prompts, and decodes of which not every token is read."""
    pair = Pair.of(TinyModel(RECORDED["qwen2"], tmp_path).path, "auto")
    for rows in (2, 3):
        pair.step(decodes(pair.recorded, [9] * rows, rows))
    prompt = PlannedSequence([*range(3, 20)], 0, [0, 1], 0, 0)
    decode = PlannedSequence([4], 20, [2, 3], 1, 1)
    unread = PlannedSequence([5], 3, [4], 2, None)
    for step, sequences in enumerate([[decode, prompt], [decode, unread], [unread, decode]]):
        pair.step(build_plan(step, sequences, [], BLOCK_SIZE))
        pair.step(decodes(pair.recorded, [30, 40], step))
