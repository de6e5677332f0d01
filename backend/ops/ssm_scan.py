"""The state space of Mamba-2 (Dao and Gu 2024) in stock torch: token by token, and in chunks.

A state S [P, N] of each head follows the tokens of a sequence:

    step = clamp(softplus(step_scale * raw + bias), steps_from, steps_to)
    S = exp(rate * step) S + step x B^T
    out = S C + skip x
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# The chunked scan multiplies so many tokens by each other.
CHUNK = 64


@dataclass(frozen=True, slots=True)
class SsmHeads:
    """This rank's heads of a Mamba-2 layer: H heads of P numbers, G groups of N numbers.

    groups: [H] int32, which group each head has. rates, biases, skips: [H] float32, the rates below
    0. The steps' least, most and scale are of all heads.
    """

    num_groups: int
    head_dim: int
    state_dim: int
    groups: Tensor
    rates: Tensor
    biases: Tensor
    skips: Tensor
    steps_from: float
    steps_to: float
    step_scale: float


class SsmInputs(NamedTuple):
    """What tokens bring to the states, float32.

    x: [T, H, P]; keys, queries: [T, H, N], B and C of each head's group; steps, log_decays: [T, H].
    """

    x: Tensor
    keys: Tensor
    queries: Tensor
    steps: Tensor
    log_decays: Tensor

    def part(self, start: int, end: int) -> "SsmInputs":
        """Return those of some tokens."""
        return SsmInputs(*(each[start:end] for each in self))


def ssm_inputs(x: Tensor, steps: Tensor, heads: SsmHeads) -> SsmInputs:
    """x: [T, H P + 2 G N], x, B and C; steps: [T, H]."""
    num_heads, shared = len(heads.rates), heads.num_groups * heads.state_dim
    x, keys, queries = torch.split(x.float(), [num_heads * heads.head_dim, shared, shared], dim=1)
    of_head = heads.groups.long()
    keys, queries = (
        part.reshape(len(x), heads.num_groups, -1)[:, of_head] for part in (keys, queries)
    )
    steps = F.softplus(steps.float() * heads.step_scale + heads.biases)
    steps = steps.clamp(heads.steps_from, heads.steps_to)
    x = x.reshape(len(x), num_heads, -1)
    return SsmInputs(x, keys, queries, steps, heads.rates * steps)


def ssm_step(inputs: SsmInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run one token of each of n sequences. state: [n, H, P, N].

    Returns [n, H, P], without what skips the state, and the states behind them.
    """
    written = (inputs.x * inputs.steps[..., None])[..., None] * inputs.keys[..., None, :]
    state = state * inputs.log_decays.exp()[..., None, None] + written
    return (state * inputs.queries[..., None, :]).sum(-1), state


def ssm_tokens(inputs: SsmInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the tokens of one sequence one by one. state: [H, P, N].

    Returns [T, H, P] and the state behind them. All shapes are those of one token: a token's bits
    are the same however a sequence is cut.
    """
    out = torch.empty_like(inputs.x)
    for t in range(len(out)):
        out[t], state = (each[0] for each in ssm_step(inputs.part(t, t + 1), state[None]))
    return out, state


def ssm_chunks(inputs: SsmInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the tokens of one sequence in chunks, by products of matrices. state: [H, P, N].

    Returns [T, H, P] and the state behind them (section 6 of the paper).
    """
    outs = []
    for start in range(0, len(inputs.x), CHUNK):
        # [C, H, ...] -> [H, C, ...]
        x, keys, queries, steps, log_decays = (
            each.transpose(0, 1) for each in inputs.part(start, start + CHUNK)
        )
        since = log_decays.cumsum(-1)  # from the beginning of the chunk
        is_later = torch.ones(2 * [x.shape[1]], dtype=torch.bool, device=x.device).triu(1)
        between = (since[..., None] - since[..., None, :]).masked_fill(is_later, -torch.inf).exp()
        written = x * steps[..., None]
        own = (queries @ keys.transpose(-1, -2) * between) @ written
        read = (queries * since.exp()[..., None]) @ state.transpose(-1, -2)
        outs.append((own + read).transpose(0, 1))
        left = written * (since[..., -1:] - since).exp()[..., None]
        decay = since[:, -1].exp()[:, None, None]
        state = state * decay + left.transpose(-1, -2) @ keys
    return torch.cat(outs), state
