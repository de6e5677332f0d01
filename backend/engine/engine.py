"""Builds what one rank computes with: settings -> platform, memory plan, model, runner.

The one place where the pieces of a rank are put together. Called by ranks/rank.py in a process of
its own, and by tests and benchmarks in theirs.
"""

import functools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from backend.config.cache_groups import CacheGroup
from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.config.pooling import Pooling
from backend.distributed.pipeline import Pipeline
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.device_draws import create_draws
from backend.engine.device_queue import CudaQueue
from backend.engine.device_runner import DeviceRunner
from backend.engine.faulty_model_runner import FaultyModelRunner
from backend.engine.graph_capture import captured_sizes, clears_blocks
from backend.engine.memory_profile import Longest, longest_steps, taken_bytes
from backend.engine.model_runner import ModelRunner
from backend.engine.platform import dtype_name
from backend.engine.pooling_runner import PoolingRunner
from backend.engine.rank_memory import budget_of, explaining_no_room, plan_memory
from backend.engine.rank_parts import RankParts
from backend.engine.stage_runner import StageRunner
from backend.fault_injection import Faults
from backend.layers.pooler import Pooler, Score
from backend.models.answer_score import AnswerScore
from backend.models.decoder import Decoder
from backend.models.encoder import Encoder
from backend.models.model import Model
from backend.models.registry import find_model, load_model
from backend.ops.kv_cache import KVCache
from backend.placement.footprint import Footprint, each_tensor, layer_sizes, mlp_unit
from backend.placement.memory_plan import MemoryPlan
from backend.placement.sharding import split_model
from backend.placement.stages import Stage, cut_layers, whole_model
from backend.sampling.faulty_sampler import FaultySampler
from backend.sampling.sampler import Sampler
from backend.settings import EngineSettings
from backend.weights.checkpoint import Checkpoint, open_checkpoint
from backend.wire.control import Budget
from backend.wire.local.heartbeat import Phase

if TYPE_CHECKING:
    from backend.models.transformers_backend import Skeleton

# What holds keys and values of 8 bits: integers, or the bits of e4m3.
_EIGHT_BITS = {"int8": torch.int8, "fp8": torch.uint8}
# First calls cost the same with any number of rows; 256 of them took 0.5 s of CPU time more, and no
# later prompt was faster for it.
WARM_UP_TOKENS = 64


@dataclass(slots=True)
class Engine:
    """One rank, ready to run.

    kv_bytes, state_bytes: the KV cache and the states of all ranks. max_num_seqs: sequences that
    run at a time. num_slots: of states, 0 where no layer keeps any; snapshot_interval: every how
    many tokens of a prompt they are kept for others.
    """

    config: ModelConfig
    groups: tuple[CacheGroup, ...]
    runner: ModelRunner | PoolingRunner
    model: Model
    device: torch.device
    dtype: str
    kernels: str
    num_blocks: int
    kv_bytes: int
    max_model_len: int
    token_budget: int
    max_num_seqs: int
    num_slots: int = 0
    state_bytes: int = 0
    snapshot_interval: int = 0
    tp: TensorParallel = field(default_factory=TensorParallel)


def build_engine(
    settings: EngineSettings,
    tp: TensorParallel,
    on_progress: Callable[[Phase, float], None],
    on_budget: Callable[[Budget], None] = lambda budget: None,
    first_rank: int = 0,
    pipeline: Pipeline | None = None,
) -> Engine:
    """Load this rank's part and warm it up. All ranks of the group must call it.

    on_progress: called with LOAD or WARM_UP and the fraction of it that is done.
    on_budget: called with what memory this rank is about to take, before it does.
    first_rank: ranks in the groups before this one, to share out the devices. tp: the ranks of its
    stage; pipeline: that stage among the others, None: there is one.
    Raises ModelError where the operator can do something about it.
    """
    path = Path(settings.model)
    pipeline = pipeline or Pipeline()
    config = load_config(path, settings.model_impl, settings.task)
    config, skeleton = find_model(config, path)
    with closing(open_checkpoint(path, config)) as checkpoint:
        shard = split_model(
            config,
            tp.size,
            mlp_unit(checkpoint, each_tensor(config)),
            expert_parallel=settings.expert_parallel,
            stage=_stage(config, checkpoint, pipeline),
        )[tp.rank]
        rank = RankParts.resolve(settings, config, shard, tp, pipeline, first_rank)
        footprint = Footprint(checkpoint, config, shard, rank.kept, dtype_name(rank.context.dtype))
        plan = plan_memory(rank, footprint)
        on_budget(budget_of(rank, plan, footprint))
        plan.check_kv_fits()
        with explaining_no_room(plan, rank, "weights were loaded"):
            model = _load(rank, checkpoint, skeleton, on_progress)
    if rank.pipeline.size == 1 and measures_steps(rank.context.device, rank.config):
        with explaining_no_room(plan, rank, "the longest step was tried"):
            plan = plan_memory(rank, footprint, _step_bytes(rank, model, plan))
        plan.check_kv_fits()
    with explaining_no_room(plan, rank, "the KV cache was made"):
        runner = _build_runner(rank, model, plan)
    with explaining_no_room(plan, rank, "its first steps were run"):
        _warm_up(runner, min(plan.token_budget, rank.max_model_len - 1), on_progress)
    return Engine(
        config=rank.config,
        groups=rank.groups,
        runner=runner,
        model=model,
        device=rank.context.device,
        dtype=dtype_name(rank.context.dtype),
        kernels=rank.kernels,
        num_blocks=plan.num_blocks,
        kv_bytes=plan.group_kv_bytes,
        max_model_len=rank.max_model_len,
        token_budget=plan.token_budget,
        max_num_seqs=plan.states.num_seqs,
        num_slots=plan.states.num_slots,
        state_bytes=plan.states.group_bytes,
        snapshot_interval=plan.snapshot_interval(settings.block_size),
        tp=tp,
    )


def measures_steps(device: torch.device, config: ModelConfig) -> bool:
    """Whether what steps take of a device's memory is measured; else an estimate serves."""
    return device.type == "cuda" and config.pooling is None


def runs_ahead(device: torch.device) -> bool:
    """Whether steps are launched on a device, and collected later."""
    return device.type == "cuda"


def _step_bytes(rank: RankParts, model: Model, plan: MemoryPlan) -> int:
    """Return what the longest steps take of a GPU, tried over a small cache of their own.

    Both together: graphs keep the scratch of decodes in a pool that prompts cannot use.
    """
    settings, device = rank.settings, rank.context.device
    has_encoder = rank.config.encoder is not None
    longest = Longest(plan.token_budget, settings.max_num_seqs, rank.max_model_len, has_encoder)
    blocks, slots = longest.room(settings.block_size, len(rank.groups))
    has_states = plan.states.num_slots > 0
    cache = _kv_cache(rank, blocks, slots if has_states else 0)
    # The one that will serve: it keeps copies of the logits that the host's does not.
    draws = create_draws(model, settings.max_num_seqs, rank.shard.vocab, (), rank.tp, device)
    sampler = draws.sampler if draws else Sampler(longest.num_seqs, rank.shard.vocab, rank.tp, ())
    runner = ModelRunner(model, cache, sampler, device)
    steps = [functools.partial(runner.run, plan) for plan in longest_steps(longest, cache)]
    return sum(taken_bytes(step, device) for step in steps)


def _load(
    rank: RankParts,
    checkpoint: Checkpoint,
    skeleton: "Skeleton | None",
    on_progress: Callable[[Phase, float], None],
) -> Model:
    return load_model(
        rank.config,
        checkpoint,
        rank.shard,
        rank.context,
        rank.max_model_len,
        lambda fraction: on_progress(Phase.LOAD, fraction),
        skeleton,
    )


def _build_runner(rank: RankParts, model: Model, plan: MemoryPlan) -> ModelRunner | PoolingRunner:
    """Allocate the KV cache and the sampler, and put them together with the model."""
    settings, device = rank.settings, rank.context.device
    kv_cache = _kv_cache(rank, plan.num_blocks, plan.states.num_slots)
    faults = Faults(settings.test_faults, rank.number)
    if rank.config.pooling is not None:
        pooler = _build_pooler(rank, rank.config.pooling, model)
        return PoolingRunner(rank.config, model, kv_cache, pooler, device, faults)
    max_num_seqs, eos = settings.max_num_seqs, rank.config.eos_token_ids
    vocab, tp = rank.shard.vocab, rank.tp
    sampler = Sampler(max_num_seqs, vocab, tp, eos)
    if faults:
        sampler = FaultySampler(max_num_seqs, vocab, tp, eos, faults=faults)
    if rank.pipeline.size > 1:
        assert isinstance(model, Decoder), "no other model is cut into stages"
        stream = rank.config.hidden_size, rank.context.dtype
        return StageRunner(model, kv_cache, sampler, device, rank.pipeline, stream, faults)
    if faults:
        return FaultyModelRunner(model, kv_cache, sampler, device, faults)
    if not runs_ahead(device):
        return ModelRunner(model, kv_cache, sampler, device)
    ops = rank.context.ops
    draws = create_draws(model, max_num_seqs, vocab, eos, tp, device)
    return DeviceRunner(
        model,
        kv_cache,
        draws.sampler if draws else sampler,
        CudaQueue(device),
        draws=draws,
        max_num_seqs=max_num_seqs,
        sizes=captured_sizes(settings, rank.config, ops, rank.max_model_len, tp),
        clears_blocks=clears_blocks(ops),
        tp=tp,
    )


def _kv_cache(rank: RankParts, num_blocks: int, num_slots: int) -> KVCache:
    settings = rank.settings
    return KVCache(
        rank.config,
        rank.shard,
        groups=rank.groups,
        num_blocks=num_blocks,
        num_slots=num_slots,
        block_size=settings.block_size,
        dtype=_EIGHT_BITS.get(settings.kv_cache_dtype, rank.context.dtype),
        device=rank.context.device,
    )


def _build_pooler(rank: RankParts, pooling: Pooling, model: Model) -> Pooler:
    """Return what pools the model's hidden states; a reranker with what scores them."""
    score: Score | None = None
    if pooling.answer_ids:
        score = AnswerScore(model, pooling.answer_ids, rank.shard, rank.tp).score
    elif isinstance(model, Encoder | Decoder) and pooling.task == "rerank":
        score = model.score
    return Pooler(pooling, Path(rank.settings.model), rank.context.device, score)


def _warm_up(
    runner: ModelRunner | PoolingRunner,
    max_tokens: int,
    on_progress: Callable[[Phase, float], None],
) -> None:
    on_progress(Phase.WARM_UP, 0.0)
    runner.warm_up(min(max_tokens, WARM_UP_TOKENS))
    on_progress(Phase.WARM_UP, 1.0)


def _stage(config: ModelConfig, checkpoint: Checkpoint, pipeline: Pipeline) -> Stage:
    """Return which layers a rank has. Raises ModelError where a model cannot be cut so."""
    if pipeline.size == 1:
        return whole_model(config)
    sizes = layer_sizes(checkpoint, config, each_tensor(config))
    return Stage(pipeline.index, cut_layers(config, pipeline.size, sizes))
