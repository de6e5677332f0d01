"""What a model would take and give in a layout of ranks: predict(model, profile, layout, load).

Memory is a start's own budget (memory_plan.py), asked with what the device has instead of with what
is free. Speed is cost_model.py's, of a batch as batch_simulation.py runs it. Called by `unisono
plan`, by `unisono tune` and by the run that holds predictions against measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import msgspec

from backend.config.cache_groups import CacheGroup, blocks_of_sequence
from backend.config.cache_shapes import groups_of
from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.tensors import TensorKind
from backend.placement.batch_simulation import BatchLimits, BatchResult, Load, simulate
from backend.placement.cost_model import RankSpeed, StepCost, StepTime
from backend.placement.device_profile import DeviceProfile
from backend.placement.footprint import Footprint, layer_sizes, mlp_unit
from backend.placement.known_weights import KnownWeights
from backend.placement.memory import DTYPE_BYTES
from backend.placement.memory_plan import (
    CPU_KV_SHARE,
    GPU_KV_SHARE,
    MemoryPlan,
    RankDevice,
    kv_dtype,
)
from backend.placement.rank_work import RankWork
from backend.placement.sharding import Shard, split_model
from backend.placement.stage_cost import Hop, PipelineCost
from backend.placement.stages import (
    LayerSizes,
    Stage,
    check_stages,
    cut_layers,
    stage_kinds,
    whole_model,
)
from backend.quant.kept_weights import KeptWeights, KernelKind
from backend.settings import EngineSettings

# A group with one more stream than another is a group like it from so many on.
_MANY_STREAMS = 64
# Weights of a block of a file's format: a cut inside one makes a tensor dense.
_LONGEST_BLOCK = 256
_ARITHMETIC = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


class Layout(NamedTuple):
    """tp: ranks that share one copy of the model, or of a stage's layers; dp: such groups. pp:
    stages of a group; nodes: that these are on, as many on each."""

    tp: int
    dp: int = 1
    pp: int = 1
    nodes: int = 1

    @property
    def num_ranks(self) -> int:
        """Ranks of all groups."""
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        stages = f" x PP {self.pp}" if self.pp > 1 else ""
        return f"TP {self.tp}{stages} x DP {self.dp}"


@dataclass(frozen=True)
class ServedModel:
    """A model and how it would be served.

    stored: what is known of its weights. dtype: of the forward pass, never "auto". kernels: who
    multiplies. settings: the rest; its model, tp, dp and devices are not looked at.
    """

    config: ModelConfig
    stored: KnownWeights
    dtype: str
    kernels: KernelKind
    settings: EngineSettings

    @cached_property
    def max_model_len(self) -> int:
        """Tokens of the longest sequence."""
        wanted = self.settings.max_model_len or self.config.max_model_len
        return min(wanted, self.config.max_model_len)

    @cached_property
    def groups(self) -> tuple[CacheGroup, ...]:
        """Layers by what they keep of a sequence."""
        return groups_of(self.config, self.max_model_len)

    @property
    def kept(self) -> KeptWeights:
        """How weights are kept."""
        return KeptWeights(self.settings.quantization, self.kernels, DTYPE_BYTES[self.dtype])

    def parts(self, tp: int, pp: int = 1) -> list[tuple[Shard, Footprint]]:
        """Return each rank's share of the model, and what it keeps of the weights, stage by stage.
        Raises ModelError where the model cannot be cut so."""
        if (tp, pp) not in self._parts:
            parts: list[tuple[Shard, Footprint]] = []
            known: dict[tuple[object, ...], Footprint] = {}
            for stage in self.stages(pp):
                kinds = tuple(stage_kinds(self.config, self._kinds, stage)) if pp > 1 else ()
                # Stages that have as many of the same layers keep as much.
                key = tuple((kind.name, kind.num_alike) for kind in kinds)
                for shard in self._shards(tp, stage):
                    share = (*self._share_of(shard), stage.is_first, stage.is_last, key)
                    if share not in known:
                        known[share] = self._footprint(shard)
                    parts.append((shard, known[share]))
            self._parts[tp, pp] = parts
        return self._parts[tp, pp]

    def stages(self, pp: int) -> list[Stage]:
        """Return a group's stages. Raises ModelError where layers cannot be cut for so many."""
        check_stages(self.config, pp)
        if pp == 1:
            return [whole_model(self.config)]
        cuts = cut_layers(self.config, pp, self._layer_sizes)
        return [Stage(index, cuts) for index in range(pp)]

    def _shards(self, tp: int, stage: Stage) -> list[Shard]:
        if tp not in self._split:
            is_parallel = self.settings.expert_parallel
            self._split[tp] = split_model(
                self.config, tp, self._mlp_unit, expert_parallel=is_parallel
            )
        return [replace(shard, stage=stage) for shard in self._split[tp]]

    @cached_property
    def _split(self) -> dict[int, list[Shard]]:
        return {}

    @cached_property
    def _layer_sizes(self) -> LayerSizes:
        return layer_sizes(self.stored, self.config, self._kinds)

    def _share_of(self, shard: Shard) -> tuple[object, ...]:
        """Return what two ranks have in common that have as much of every tensor, cut alike: of a
        model whose layers are alike, parts as long that begin at as far into a block."""
        if not self._is_even or shard.experts is not None:
            return (shard.rank,)
        columns = (shard.heads.start * self.config.head_dim, shard.intermediate.start)
        parts = (shard.heads, shard.kv_heads, shard.intermediate, shard.vocab)
        return (
            *(part.stop - part.start for part in parts),
            *(start % _LONGEST_BLOCK for start in columns),
        )

    @cached_property
    def _is_even(self) -> bool:
        """Whether all layers have as many heads, and MLPs or experts as wide, and keep no state."""
        spec = self.config.spec
        if self.config.encoder or any(layer.state for layer in spec.layers):
            return False
        kinds = {
            (
                layer.attention and self.config.num_kv_heads_of(layer.attention),
                layer.attention and self.config.head_dim_of(layer.attention),
                layer.mlp,
                layer.beside,
            )
            for layer in spec.layers
        }
        return len(kinds) == 1

    @cached_property
    def _parts(self) -> dict[tuple[int, int], list[tuple[Shard, Footprint]]]:
        return {}

    @cached_property
    def _kinds(self) -> Sequence[TensorKind]:
        return self.stored.kinds(self.config)

    @cached_property
    def _mlp_unit(self) -> int:
        return mlp_unit(self.stored, self._kinds)

    def _footprint(self, shard: Shard) -> Footprint:
        return Footprint(self.stored, self.config, shard, self.kept, self.dtype, kinds=self._kinds)

    def changed(self, **settings: object) -> "ServedModel":
        """Return the same model with other settings."""
        return replace(self, settings=msgspec.structs.replace(self.settings, **settings))


class RankBudget(msgspec.Struct, frozen=True):
    """What the fullest rank of a layout takes, in bytes. device_bytes: what it may.

    kv_bytes: its cache, as large as it becomes by default; state_bytes: slots of states.
    logit_bytes: of activation_bytes, what only draws take, not the most likely tokens.
    """

    weight_bytes: int
    activation_bytes: int
    kv_bytes: int
    state_bytes: int
    device_bytes: int
    logit_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes + self.kv_bytes + self.state_bytes


class Prediction(msgspec.Struct, frozen=True):
    """What a layout would do with a load.

    fitting_seqs: that have room for prompt and completion at a time, in all groups; running_seqs:
    of those asked for. tokens_per_s: of completions, of all groups; of prompts, where a model makes
    vectors. ttft_s: the median; inter_token_s: between a stream's tokens, on average. times:
    seconds of a group's steps, by what took them.
    """

    tp: int
    dp: int
    memory: RankBudget
    fitting_seqs: int
    running_seqs: int
    tokens_per_s: float
    ttft_s: float
    inter_token_s: float
    request_s: float
    times: StepTime
    token_budget: int
    pp: int = 1
    nodes: int = 1

    @property
    def layout(self) -> Layout:
        return Layout(self.tp, self.dp, self.pp, self.nodes)

    @property
    def bound(self) -> str:
        """The part that takes most of the time, by its name in StepTime."""
        parts = msgspec.structs.asdict(self.times)
        return max(parts, key=lambda name: parts[name])

    @property
    def serial_share(self) -> float:
        """The part of the time that more ranks do not make less, Amdahl's."""
        return self.times.serial / self.times.total if self.times.total else 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """How the ranks of a group fit. plan: of the fullest, with what all ranks have room for.
    stages: of each its rank with most weights."""

    shard: Shard
    footprint: Footprint
    plan: MemoryPlan
    blocks_each: int
    stages: tuple[tuple[Shard, Footprint], ...]

    @property
    def fitting_seqs(self) -> int:
        """Sequences that a group has room for at a time; of states there are as many slots as
        sequences may run."""
        most = self.plan.states.num_seqs if self.plan.states.slot_bytes else 1 << 20
        return min(most, self.plan.num_blocks // self.blocks_each) if self.blocks_each else most


def fit(model: ServedModel, profile: DeviceProfile, layout: Layout, load: Load) -> Fit:
    """Lay a model out. Raises ModelError, in a start's words, if it cannot be served so, or if not
    even one sequence of the load has room."""
    check_length(model, load)
    free_bytes = int(profile.memory_bytes * profile.usable_share)
    if profile.kind == "cpu":
        free_bytes //= layout.num_ranks
    device = RankDevice(profile.kind, model.dtype, free_bytes)
    # Ranks that keep the same have the same plan.
    plans: dict[int, MemoryPlan] = {}
    fits = []
    for shard, footprint in model.parts(layout.tp, layout.pp):
        key = id(footprint)
        if key not in plans:
            plans[key] = MemoryPlan.of(
                model.config, model.groups, shard, model.settings, footprint.total, device
            )
        fits.append((shard, footprint, plans[key]))
    rooms = zip(*(plan.room for _, _, plan in fits), strict=True)
    blocks, seqs, snapshots = (min(room) for room in rooms)
    agreed = [
        (shard, footprint, plan.agreed(blocks, seqs, snapshots)) for shard, footprint, plan in fits
    ]
    # Weights may be evened out where heads are not: the default model has three KV heads.
    shard, footprint, plan = max(
        agreed, key=lambda each: sum(each[1].total) + each[2].kv_bytes + each[2].states.bytes
    )
    plan.check_kv_fits()
    length = load.prompt_tokens + load.output_tokens
    each = blocks_of_sequence(model.groups, length, model.settings.block_size, plan.token_budget)
    if each > blocks:
        each_bytes, has_bytes = (n * plan.group_block_bytes for n in (each, blocks))
        raise ModelError(
            f"not enough memory for the KV cache: a sequence of {length:,} tokens takes "
            f"{each_bytes / 1e9:,.2f} GB, {has_bytes / 1e9:,.2f} GB are left for it\n"
            "ask for fewer tokens, or take more devices with --tp"
        )
    fullest = (
        max(
            ((shard, footprint) for shard, footprint, _ in fits if shard.stage.index == stage),
            key=lambda part: sum(part[1].total),
        )
        for stage in range(layout.pp)
    )
    return Fit(shard, footprint, plan, each, tuple(fullest) if layout.pp > 1 else ())


def missing_bytes(model: ServedModel, profile: DeviceProfile, layout: Layout, load: Load) -> int:
    """Return how much more memory a device would need for the weights and one sequence of the
    load, at least; 0 if that is not what is missing. Raises ModelError as fit() does for all else.
    """
    endless = msgspec.structs.replace(profile, memory_bytes=1 << 50)
    fitted = fit(model, endless, layout, load)
    plan = fitted.plan
    share = CPU_KV_SHARE if profile.kind == "cpu" else GPU_KV_SHARE
    cache_bytes = fitted.blocks_each * plan.block_bytes + plan.states.slot_bytes
    needed = plan.rank_memory.total_bytes + int(cache_bytes / share)
    ranks = layout.num_ranks if profile.kind == "cpu" else 1
    return max(0, needed * ranks - int(profile.memory_bytes * profile.usable_share))


def predict(
    model: ServedModel,
    profile: DeviceProfile,
    layout: Layout,
    load: Load,
    network: Hop | None = None,
) -> Prediction:
    """Say what a layout would take and give. profile: of one device, or of the CPU that all ranks
    share. network: between nodes. Raises ModelError as fit() does."""
    fitted = fit(model, profile, layout, load)
    # Groups without a stream, and stages without a cohort, leave the machine to the others.
    busy_ranks = layout.tp * min(layout.pp * layout.dp, load.concurrency)
    cost = _cost(model, profile, layout, fitted, busy_ranks, network)
    shares = _shares(load.concurrency, layout.dp)
    limits = _limits(model, fitted)
    most = shares[0][0]
    busiest = simulate(replace_concurrency(load, most), limits, cost.of)
    results = [
        (
            busiest
            if count == most or count >= _MANY_STREAMS
            else simulate(replace_concurrency(load, count), limits, cost.of),
            groups,
        )
        for count, groups in shares
    ]
    plan = fitted.plan
    running = min(fitted.fitting_seqs, plan.states.num_seqs)
    budget = RankBudget(
        plan.rank_memory.weight_bytes + plan.rank_memory.packed_bytes,
        plan.rank_memory.activation_bytes,
        plan.kv_bytes,
        plan.states.bytes,
        plan.free_bytes,
        plan.rank_memory.logit_bytes,
    )
    ttft_s = busiest.median_ttft_s + profile.host_overhead_s
    return Prediction(
        tp=layout.tp,
        dp=layout.dp,
        memory=budget,
        fitting_seqs=fitted.fitting_seqs * layout.dp,
        running_seqs=sum(groups * min(count, running) for count, groups in shares),
        tokens_per_s=sum(groups * _rate(model, result) for result, groups in results),
        ttft_s=ttft_s,
        inter_token_s=busiest.inter_token_s,
        request_s=ttft_s + max(0, load.output_tokens - 1) * busiest.inter_token_s,
        times=busiest.times,
        token_budget=plan.token_budget,
        pp=layout.pp,
        nodes=layout.nodes,
    )


def _cost(
    model: ServedModel,
    profile: DeviceProfile,
    layout: Layout,
    fitted: Fit,
    busy_ranks: int,
    network: Hop | None,
) -> StepCost | PipelineCost:
    if layout.pp == 1:
        return step_cost(model, profile, layout, fitted, busy_ranks)
    # Stages that keep the same do the same.
    costs = {
        id(kept): step_cost(
            model, profile, layout, replace(fitted, shard=shard, footprint=kept), busy_ranks
        )
        for shard, kept in {id(each[1]): each for each in fitted.stages}.values()
    }
    stages = [costs[id(kept)] for _, kept in fitted.stages]
    here = Hop(profile.link_bandwidth, profile.link_latency_s)
    far = network or here
    each = layout.pp // layout.nodes  # stages of a node
    hops = [here if index % each else far for index in range(1, layout.pp)]
    return PipelineCost(stages, hops, model.config.hidden_size)


def step_cost(
    model: ServedModel,
    profile: DeviceProfile,
    layout: Layout,
    fitted: Fit,
    busy_ranks: int = 0,
) -> StepCost:
    """Return what steps of a layout's slowest rank cost. busy_ranks: that compute; 0: all."""
    stored_as = kv_dtype(model.settings, model.dtype)
    work = RankWork.of(model.config, fitted.shard, fitted.footprint, model.dtype, stored_as)
    num_ranks = layout.num_ranks
    threads = model.settings.threads or max(1, profile.threads // num_ranks)
    dense = _ARITHMETIC[model.dtype]
    packed = dense
    if model.kernels == "native":
        wanted = model.settings.activations
        packed = "mixed" if wanted == "auto" else wanted
    speed = RankSpeed(profile, packed, dense, threads, busy_ranks or num_ranks)
    return StepCost(work, speed, layout.tp, is_replayed=layout.tp * layout.pp == 1)


def replace_concurrency(load: Load, count: int) -> Load:
    """Return the part of a load that one of several groups has."""
    return replace(load, concurrency=count)


def _limits(model: ServedModel, fitted: Fit) -> BatchLimits:
    plan = fitted.plan
    return BatchLimits(
        max_seqs=min(fitted.fitting_seqs, plan.states.num_seqs),
        token_budget=plan.token_budget,
        inter_token_s=model.settings.inter_token_ms / 1e3,
        chunks=not model.config.runs_whole,
    )


def _shares(concurrency: int, dp: int) -> list[tuple[int, int]]:
    """Return (streams, groups that have so many), the busiest first."""
    few, more = divmod(concurrency, dp)
    shares = [(few + 1, more), (few, dp - more)]
    return [(count, groups) for count, groups in shares if groups and count]


def _rate(model: ServedModel, result: BatchResult) -> float:
    is_pooled = model.config.pooling is not None
    tokens = result.prompt_tokens if is_pooled else result.output_tokens
    return tokens / result.busy_s


def check_length(model: ServedModel, load: Load) -> None:
    """Raise ModelError if a prompt and its completion are longer than the model takes."""
    length = load.prompt_tokens + load.output_tokens
    if length > model.max_model_len:
        what = "prompt and completion are" if load.output_tokens else "a text is"
        raise ModelError(
            f"{what} {length:,} tokens, {model.config.name} takes {model.max_model_len:,}\n"
            "ask for fewer with --prompt and --output"
        )
