"""What memory a rank has and takes, and what its operator is told of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.platform import dtype_name
from backend.engine.rank_parts import RankParts
from backend.placement.footprint import Footprint
from backend.placement.memory import available_bytes
from backend.placement.memory_plan import MemoryPlan, RankDevice
from backend.placement.out_of_memory import out_of_memory
from backend.settings import EngineSettings
from backend.wire.control import Budget


@contextmanager
def explaining_no_room(plan: MemoryPlan, rank: RankParts, while_: str) -> Iterator[None]:
    """Turn a device's having no room left into what the operator can do about it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise out_of_memory(plan, rank.settings, str(rank.context.device), while_) from None


def plan_memory(rank: RankParts, footprint: Footprint, step_bytes: int = 0) -> MemoryPlan:
    """Plan this rank's memory, with as many blocks and slots as every rank of the group has
    room for. step_bytes: as MemoryPlan.of takes it; weights are loaded by then."""
    context, tp, pipeline = rank.context, rank.tp, rank.pipeline
    free_bytes = free_bytes_of(context.device, tp, rank.settings)
    device = RankDevice(context.device.type, dtype_name(context.dtype), free_bytes)
    plan = MemoryPlan.of(
        rank.config, rank.groups, rank.shard, rank.settings, footprint.total, device, step_bytes
    )
    of_stage = tp.all_gather(torch.tensor(plan.room)).amin(0).tolist()
    return plan.agreed(*map(min, zip(*pipeline.gather(of_stage), strict=True)))


def budget_of(rank: RankParts, plan: MemoryPlan, footprint: Footprint) -> Budget:
    """Return what a rank is about to take, and what is worth knowing of it."""
    notes = plan.states.note(rank.settings.max_num_seqs) if rank.number == 0 else ()
    foreign = rank.config.foreign
    if rank.number == 0 and foreign and foreign.unread:
        notes = (
            *notes,
            f"transformers' {foreign.architecture} does not read {', '.join(foreign.unread)} of"
            " config.json: where that changes the model, what it says is wrong",
        )
    if rank.pipeline.size > 1 and rank.tp.rank == 0:
        notes = (*notes, str(rank.shard.stage))
    return Budget(
        rank=rank.number,
        weight_bytes=plan.rank_memory.weight_bytes,
        packed_bytes=plan.rank_memory.packed_bytes,
        kv_bytes=plan.kv_bytes,
        activation_bytes=plan.rank_memory.activation_bytes,
        free_bytes=plan.free_bytes,
        expanded=footprint.expanded(),
        state_bytes=plan.states.bytes,
        notes=notes,
    )


def free_bytes_of(device: torch.device, tp: TensorParallel, settings: EngineSettings) -> int:
    """Return what one rank may take: its share of what is free of its device, or of the machine's
    memory."""
    if device.type != "cuda":
        return available_bytes() // (settings.ranks_a_node * settings.dp)
    cards = tp.all_gather(torch.tensor([device.index])).flatten().tolist()
    # A card of another machine may have the same number.
    each = min(tp.size, settings.ranks_a_node)
    first = tp.rank // each * each
    # What this process has taken already, weights that is, is planned for as well.
    free = int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    return free // cards[first : first + each].count(device.index)
