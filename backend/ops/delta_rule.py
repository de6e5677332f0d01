"""The gated delta rule (Yang et al. 2025) in stock torch: token by token, and in chunks.

A state S [Dk, Dv] of each value head follows the tokens of a sequence:

    k, q = k / |k|, q / (|q| sqrt(Dk))
    S = exp(rate * softplus(a + bias)) S
    S = S + k (sigmoid(b) (v - S^T k))^T
    out = S^T q
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# The chunked rule solves a triangle of so many tokens.
CHUNK = 64


@dataclass(frozen=True, slots=True)
class DeltaHeads:
    """This rank's heads of a delta net: Hk key heads, Hv value heads.

    key_heads: [Hv] int32, which key head each value head has. rates, biases: [Hv] float32, the
    rates below 0. eps: added to the squares of a key or query where its length is taken.
    """

    num_key_heads: int
    key_dim: int
    value_dim: int
    key_heads: Tensor
    rates: Tensor
    biases: Tensor
    eps: float


class DeltaInputs(NamedTuple):
    """What tokens bring to the states, float32, keys and queries as the rule takes them.

    queries, keys: [T, Hv, Dk]; values: [T, Hv, Dv]; log_decays, betas: [T, Hv].
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    log_decays: Tensor
    betas: Tensor

    def part(self, start: int, end: int) -> "DeltaInputs":
        """Return those of some tokens."""
        return DeltaInputs(*(each[start:end] for each in self))


def delta_inputs(x: Tensor, a: Tensor, b: Tensor, heads: DeltaHeads) -> DeltaInputs:
    """x: [T, 2 Hk Dk + Hv Dv], queries, keys and values; a, b: [T, Hv]."""
    width = heads.num_key_heads * heads.key_dim
    queries, keys, values = torch.split(x.float(), [width, width, x.shape[1] - 2 * width], dim=1)
    of_value_head = heads.key_heads.long()
    queries, keys = (
        _unit(part.reshape(len(x), heads.num_key_heads, -1), heads.eps)[:, of_value_head]
        for part in (queries, keys)
    )
    steps = F.softplus(a.float() + heads.biases)
    return DeltaInputs(
        queries * heads.key_dim**-0.5,
        keys,
        values.reshape(len(x), -1, heads.value_dim),
        heads.rates * steps,
        b.float().sigmoid(),
    )


def delta_step(inputs: DeltaInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run one token of each of n sequences. state: [n, Hv, Dk, Dv].

    Returns [n, Hv, Dv] and the states behind them.
    """
    queries, keys, values, log_decays, betas = inputs
    state = state * log_decays.exp()[..., None, None]
    known = (state * keys[..., None]).sum(-2)
    added = (values - known) * betas[..., None]
    state = state + keys[..., None] * added[..., None, :]
    return (state * queries[..., None]).sum(-2), state


def delta_tokens(inputs: DeltaInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the tokens of one sequence one by one. state: [Hv, Dk, Dv].

    Returns [T, Hv, Dv] and the state behind them. All shapes are those of one token: a token's bits
    are the same however a sequence is cut.
    """
    out = torch.empty_like(inputs.values)
    for t in range(len(out)):
        out[t], state = (each[0] for each in delta_step(inputs.part(t, t + 1), state[None]))
    return out, state


def delta_chunks(inputs: DeltaInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the tokens of one sequence in chunks, by products of matrices. state: [Hv, Dk, Dv].

    Returns [T, Hv, Dv] and the state behind them. What the tokens of a chunk add depends on what
    those before them have added: a triangular system, solved for all chunks at once (section 3.2).
    """
    num_tokens = len(inputs.values)
    pad = -num_tokens % CHUNK
    # [T, Hv, ...] -> [Hv, chunks, CHUNK, ...]; tokens that pad change nothing: beta 0, decay 1.
    queries, keys, values, log_decays, betas = (
        F.pad(each, (0, 0) * (each.ndim - 1) + (0, pad))
        .view(-1, CHUNK, *each.shape[1:])
        .movedim(2, 0)
        for each in inputs
    )
    since = log_decays.cumsum(-1)  # from the beginning of the chunk
    is_later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=state.device).triu(1)
    between = (since[..., None] - since[..., None, :]).masked_fill(is_later, -torch.inf).exp()
    written = keys * betas[..., None]
    system = (written @ keys.transpose(-1, -2)) * between
    seen = (queries @ keys.transpose(-1, -2)) * between
    own = _solve(system, values * betas[..., None])
    read = _solve(system, written * since.exp()[..., None])
    queries = queries * since.exp()[..., None]
    keys = keys * (since[..., -1:] - since).exp()[..., None]
    out = torch.empty_like(values)
    for i in range(values.shape[1]):
        added = own[:, i] - read[:, i] @ state
        out[:, i] = queries[:, i] @ state + seen[:, i] @ added
        decay = since[:, i, -1].exp()[:, None, None]
        state = state * decay + keys[:, i].transpose(-1, -2) @ added
    return out.flatten(1, 2).transpose(0, 1)[:num_tokens], state


def _unit(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + eps)


def _solve(system: Tensor, right: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    return solved
