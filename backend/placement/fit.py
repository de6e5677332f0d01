"""Whether a model fits devices in a layout, and what its ranks have room for.

Memory is a start's own budget (memory_plan.py), asked with what the device has instead of with what
is free. Knows no speed.
"""

from dataclasses import dataclass

import msgspec

from backend.config.cache_groups import blocks_of_sequence
from backend.config.errors import ModelError
from backend.placement.batch_simulation import Load
from backend.placement.device_profile import DeviceProfile
from backend.placement.footprint import Footprint
from backend.placement.layout import Layout
from backend.placement.memory_plan import CPU_KV_SHARE, GPU_KV_SHARE, MemoryPlan, RankDevice
from backend.placement.served_model import ServedModel
from backend.placement.sharding import Shard


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


def check_length(model: ServedModel, load: Load) -> None:
    """Raise ModelError if a prompt and its completion are longer than the model takes."""
    length = load.prompt_tokens + load.output_tokens
    if length > model.max_model_len:
        what = "prompt and completion are" if load.output_tokens else "a text is"
        raise ModelError(
            f"{what} {length:,} tokens, {model.config.name} takes {model.max_model_len:,}\n"
            "ask for fewer with --prompt and --output"
        )
