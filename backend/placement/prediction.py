"""What a model would take and give in a layout of ranks: predict(model, profile, layout, load).

Memory is fit.py's. Speed is cost_model.py's, of a batch as batch_simulation.py runs it. Called by
`unisono plan`, by `unisono tune` and by the run that holds predictions against measurements.
"""

from dataclasses import replace

import msgspec

from backend.placement.batch_simulation import BatchLimits, BatchResult, Load, simulate
from backend.placement.cost_model import NO_NETWORK, RankSpeed, StepCost, StepTime
from backend.placement.device_profile import DeviceProfile
from backend.placement.fit import Fit, fit
from backend.placement.hop import Hop
from backend.placement.layout import Layout
from backend.placement.memory_plan import kv_dtype
from backend.placement.rank_work import RankWork
from backend.placement.served_model import ServedModel
from backend.placement.stage_cost import PipelineCost

# A group with one more stream than another is a group like it from so many on.
_MANY_STREAMS = 64
_ARITHMETIC = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


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
    limits = _limits(model, fitted, profile.host_overhead_s)
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
    ttft_s = busiest.median_ttft_s
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
    here = Hop(profile.link_bandwidth, profile.link_latency_s)
    far = network or here
    if layout.pp == 1:
        return step_cost(model, profile, layout, fitted, busy_ranks, far)
    # Stages that keep the same do the same.
    costs = {
        id(kept): step_cost(
            model, profile, layout, replace(fitted, shard=shard, footprint=kept), busy_ranks, far
        )
        for shard, kept in {id(each[1]): each for each in fitted.stages}.values()
    }
    stages = [costs[id(kept)] for _, kept in fitted.stages]
    each = max(1, layout.pp // layout.nodes)  # stages of a node
    is_far = layout.nodes > 1
    hops = [far if is_far and index % each == 0 else here for index in range(1, layout.pp)]
    return PipelineCost(stages, hops, far if is_far else here, model.config.hidden_size)


def step_cost(
    model: ServedModel,
    profile: DeviceProfile,
    layout: Layout,
    fitted: Fit,
    busy_ranks: int = 0,
    network: Hop = NO_NETWORK,
) -> StepCost:
    """Return what steps of a layout's slowest rank cost. busy_ranks: that compute; 0: all.
    network: between nodes that share a stage."""
    stored_as = kv_dtype(model.settings, model.dtype)
    work = RankWork.of(model.config, fitted.shard, fitted.footprint, model.dtype, stored_as)
    num_ranks = layout.num_ranks // layout.nodes  # of a CPU that shares nothing with other nodes'
    threads = model.settings.threads or max(1, profile.threads // num_ranks)
    dense = _ARITHMETIC[model.dtype]
    packed = dense
    if model.kernels == "native":
        wanted = model.settings.activations
        packed = "mixed" if wanted == "auto" else wanted
    speed = RankSpeed(profile, packed, dense, threads, busy_ranks or num_ranks)
    return StepCost(
        work,
        speed,
        layout.tp,
        is_replayed=layout.tp * layout.pp == 1,
        nodes=layout.stage_nodes,
        network=network,
    )


def replace_concurrency(load: Load, count: int) -> Load:
    """Return the part of a load that one of several groups has."""
    return replace(load, concurrency=count)


def _limits(model: ServedModel, fitted: Fit, arrival_s: float) -> BatchLimits:
    plan = fitted.plan
    return BatchLimits(
        max_seqs=min(fitted.fitting_seqs, plan.states.num_seqs),
        token_budget=plan.token_budget,
        inter_token_s=model.settings.inter_token_ms / 1e3,
        chunks=not model.config.runs_whole,
        arrival_s=arrival_s,
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
