"""What a sequence keeps of fixed size: the states of its layers, and how often they are kept for
the prefix cache.

Knows mixers and counts, no tensors, no ranks and no sequences. States are float32 whatever the
arithmetic: a recurrence adds its roundings up.
"""

from math import prod

from backend.config.spec import DeltaNet, Layer, Mamba2, ShortConv, StateMixer

STATE_BYTES = 4
# A snapshot in the middle of a prompt serves prompts that part behind it: one for each so many
# tokens at least, more where a state takes more than the keys and values of so many.
MIN_INTERVAL = 512

StateShape = tuple[str, tuple[int, ...]]
"""A state's name, and the shape of one sequence's."""


def state_shapes(
    state: StateMixer | None, units: int, num_groups: int = 0
) -> tuple[StateShape, ...]:
    """Return what a layer's mixer keeps for each sequence; nothing where it has none.

    units: a rank's share of what its ranks divide: channels of a short convolution, value heads of
    a delta net, heads of a Mamba-2. num_groups: the groups of the latter that a rank has, 0: all.
    """
    match state:
        case ShortConv():
            return (conv_shape(units, state.kernel),)
        case DeltaNet():
            keys = state.num_key_heads_of(units) * state.key_dim
            channels = 2 * keys + units * state.value_dim
            return (
                conv_shape(channels, state.kernel),
                ("delta", (units, state.key_dim, state.value_dim)),
            )
        case Mamba2():
            shared = 2 * (num_groups or state.num_groups) * state.state_dim
            return (
                conv_shape(units * state.head_dim + shared, state.kernel),
                ("ssm", (units, state.head_dim, state.state_dim)),
            )
        case None:
            return ()


def conv_shape(channels: int, kernel: int) -> StateShape:
    """Return the state of a causal convolution: the inputs of the last tokens, oldest first."""
    return "conv", (kernel - 1, channels)


def num_units(state: StateMixer) -> int:
    """Return how many units a mixer has that ranks divide."""
    match state:
        case ShortConv():
            return state.width
        case DeltaNet():
            return state.num_value_heads
        case Mamba2():
            return state.num_heads


def num_bytes(shapes: tuple[StateShape, ...]) -> int:
    """Return what the states of one layer and sequence take."""
    return STATE_BYTES * sum(prod(shape) for _, shape in shapes)


def has_states(layers: tuple[Layer, ...]) -> bool:
    """Whether a sequence keeps anything of fixed size."""
    return any(layer.state is not None for layer in layers)


def snapshot_interval(slot_bytes: int, token_bytes: int, block_size: int) -> int:
    """Return every how many tokens of a prompt a snapshot of its states is kept, in full blocks.

    slot_bytes, token_bytes: of a sequence's states, and of a token's keys and values; a snapshot
    takes no more than what it goes with.
    """
    tokens = max(MIN_INTERVAL, slot_bytes // token_bytes if token_bytes else 0)
    return -(-tokens // block_size) * block_size
