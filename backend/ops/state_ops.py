"""Ops of layers that keep a state for each sequence, in stock torch, on any device."""

import torch
from torch import Tensor

from backend.config.spec import Activation
from backend.ops.batch import StateBatch
from backend.ops.tokenwise import activate


class StateOps:
    """See `Ops` for shapes."""

    def causal_conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        state: Tensor,
        states: StateBatch,
        activation: Activation | None,
    ) -> Tensor:
        inputs, rows = _with_inputs_before(x, state, states)
        taps = len(weight)
        # Tap by tap, each rounded: a row's bits are the same whatever else there is.
        out = inputs[rows - (taps - 1)] * weight[0]
        for tap in range(1, taps):
            out = out + inputs[rows - (taps - 1 - tap)] * weight[tap]
        if bias is not None:
            out = out + bias
        ends = rows[states.starts[1:] - 1]  # [K]
        kept = ends[:, None] + torch.arange(2 - taps, 1, device=x.device)
        state[states.writes] = inputs[kept]
        return (activate(out, activation) if activation else out).to(x.dtype)


def _with_inputs_before(x: Tensor, state: Tensor, states: StateBatch) -> tuple[Tensor, Tensor]:
    """Return each sequence's state and then its tokens, [T + S * (taps - 1), C], and the rows of
    tokens, [T]."""
    num_kept = state.shape[1]
    firsts = states.chains[:-1]
    reads, starts = states.reads[firsts], states.starts[firsts]
    begins = reads < 0
    before = state[reads.clamp(min=0)].masked_fill(begins[:, None, None], 0.0)
    num_seqs, num_tokens = len(firsts), len(x)
    lens = states.starts[states.chains[1:]] - starts
    sequence = torch.arange(num_seqs, device=x.device).repeat_interleave(lens)
    rows = torch.arange(num_tokens, device=x.device) + num_kept * (sequence + 1)
    inputs = before.new_empty(num_tokens + num_seqs * num_kept, x.shape[1])
    inputs[rows] = x.float()
    places = rows[starts][:, None] + torch.arange(-num_kept, 0, device=x.device)
    inputs[places] = before
    return inputs, rows
