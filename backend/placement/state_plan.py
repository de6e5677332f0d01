"""How many slots of states there are, of sequences that run and of snapshots, and what they take.

Slots and KV blocks share one budget, --kv-cache-bytes. Slots of running sequences come first, with
half of it at most where there are blocks as well; where that is too little for max_num_seqs, fewer
run at a time. Snapshots for the prefix cache get --state-cache-bytes, or a quarter of what is left
then; blocks get the rest. Pure arithmetic. Called by memory_plan.py.
"""

from dataclasses import dataclass

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.spec import EncoderSpec
from backend.config.states import num_bytes, num_units, state_shapes
from backend.placement.sharding import Shard
from backend.settings import EngineSettings

# A sequence without blocks is of no more use than one without a slot.
SEQUENCE_SHARE = 0.5
SNAPSHOT_SHARE = 0.25
# Small states, as short convolutions have, would get more snapshots than prompts ever use.
MOST_SNAPSHOTS = 1024


@dataclass(frozen=True, slots=True)
class StatePlan:
    """slot_bytes: this rank's part of a slot; group_slot_bytes: all of it. num_seqs: sequences that
    may run at a time, each with a slot; num_snapshots: slots beside these."""

    slot_bytes: int
    group_slot_bytes: int
    num_seqs: int
    num_snapshots: int

    @property
    def num_slots(self) -> int:
        return self.num_seqs + self.num_snapshots if self.group_slot_bytes else 0

    @property
    def bytes(self) -> int:
        """This rank's part of all slots."""
        return self.num_slots * self.slot_bytes

    @property
    def group_bytes(self) -> int:
        return self.num_slots * self.group_slot_bytes

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        shard: Shard,
        settings: EngineSettings,
        budget_bytes: int,
        *,
        has_blocks: bool,
    ) -> "StatePlan":
        """Share a group's budget out. Raises ModelError if not even one sequence has room."""
        slot_bytes = group_slot_bytes(config)
        num_seqs = settings.max_num_seqs
        if not slot_bytes:
            return cls(0, 0, num_seqs, 0)
        room = int(budget_bytes * (SEQUENCE_SHARE if has_blocks else 1)) // slot_bytes
        if not room:
            raise ModelError(
                f"not enough memory for the states of one sequence: they take {slot_bytes:,} "
                f"bytes, {budget_bytes:,} are free for them and the KV cache\n"
                "free some memory, or set --kv-cache-bytes"
            )
        num_seqs = min(num_seqs, room)
        left_bytes = budget_bytes - num_seqs * slot_bytes
        num_snapshots = 0
        if settings.prefix_caching and not config.runs_whole:
            num_snapshots = _num_snapshots(settings.state_cache_bytes, left_bytes, slot_bytes)
        return cls(rank_slot_bytes(config, shard), slot_bytes, num_seqs, num_snapshots)

    def note(self, max_num_seqs: int) -> tuple[str, ...]:
        """Say, in a line, that fewer sequences run at a time than was asked for, if so."""
        if self.num_seqs >= max_num_seqs:
            return ()
        return (
            f"--max-num-seqs {max_num_seqs} is lowered to {self.num_seqs}: each sequence keeps "
            f"states of {self.group_slot_bytes:,} bytes; a larger --kv-cache-bytes has room "
            "for more",
        )


def group_slot_bytes(config: ModelConfig) -> int:
    """Return what the states of a sequence take over all ranks; 0 if no layer keeps any."""
    if isinstance(config.spec, EncoderSpec):
        return 0
    states = [layer.state for layer in config.spec.layers if layer.state is not None]
    return sum(num_bytes(state_shapes(state, num_units(state))) for state in states)


def rank_slot_bytes(config: ModelConfig, shard: Shard) -> int:
    """Return this rank's part of that, in the layers that it has."""
    layers = [config.spec.layers[index] for index in shard.stage.layers]
    return sum(num_bytes(shard.state_shapes(layer.state)) for layer in layers)


def _num_snapshots(set_bytes: int, left_bytes: int, slot_bytes: int) -> int:
    """Return how many snapshots there may be. left_bytes: beside the slots of sequences."""
    if set_bytes > left_bytes:
        raise ModelError(
            f"--state-cache-bytes {set_bytes} is too much: of --kv-cache-bytes {left_bytes:,} are "
            "left beside the states of running sequences\n"
            "set less, or a larger --kv-cache-bytes or a smaller --max-num-seqs"
        )
    if set_bytes:
        return set_bytes // slot_bytes
    return min(int(left_bytes * SNAPSHOT_SHARE) // slot_bytes, MOST_SNAPSHOTS)
