"""Ops of layers that keep a state for each sequence, in stock torch, on any device."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from backend.config.spec import Activation
from backend.ops.batch import StateBatch
from backend.ops.delta_rule import (
    DeltaHeads,
    DeltaInputs,
    delta_chunks,
    delta_inputs,
    delta_step,
)
from backend.ops.gated_norm import GatedNorm, gated_norm, gated_squares
from backend.ops.ssm_scan import SsmHeads, SsmInputs, ssm_chunks, ssm_inputs, ssm_step
from backend.ops.tokenwise import activate

_Inputs = TypeVar("_Inputs", DeltaInputs, SsmInputs)


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

    def delta_rule(
        self,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        heads: DeltaHeads,
        state: Tensor,
        states: StateBatch,
    ) -> Tensor:
        inputs = delta_inputs(x, a, b, heads)
        if len(x) == len(states.writes):  # one token a segment
            before = state[states.reads.clamp(min=0).long()]
            before = before.masked_fill((states.reads < 0)[:, None, None, None], 0.0)
            out, state[states.writes.long()] = delta_step(inputs, before)
            return out.to(x.dtype)
        return run_segments(delta_chunks, inputs, inputs.values, state, states).to(x.dtype)

    def ssm_scan(
        self, x: Tensor, steps: Tensor, heads: SsmHeads, state: Tensor, states: StateBatch
    ) -> Tensor:
        inputs = ssm_inputs(x, steps, heads)
        if len(x) == len(states.writes):  # one token a segment
            before = state[states.reads.clamp(min=0).long()]
            before = before.masked_fill((states.reads < 0)[:, None, None, None], 0.0)
            out, state[states.writes.long()] = ssm_step(inputs, before)
        else:
            out = run_segments(ssm_chunks, inputs, inputs.x, state, states)
        return (out + inputs.x * heads.skips[:, None]).to(x.dtype)

    def gated_norm(
        self, x: Tensor, gate: Tensor, norm: GatedNorm, squares: Tensor | None = None
    ) -> Tensor:
        return gated_norm(x, gate, norm, squares)

    def gated_squares(self, x: Tensor, gate: Tensor, norm: GatedNorm) -> Tensor:
        return gated_squares(x, gate, norm)


def run_segments(
    rule: Callable[[_Inputs, Tensor], tuple[Tensor, Tensor]],
    inputs: _Inputs,
    like: Tensor,
    state: Tensor,
    states: StateBatch,
) -> Tensor:
    """Run segments of a recurrence one after the other. rule: runs one. Returns what is like
    `like`."""
    out = torch.empty_like(like)
    slots = zip(states.reads.tolist(), states.writes.tolist(), strict=True)
    for (read, write), start, end in zip(
        slots, states.start_list[:-1], states.start_list[1:], strict=True
    ):
        before = state[read] if read >= 0 else torch.zeros_like(state[write])
        out[start:end], state[write] = rule(inputs.part(start, end), before)
    return out


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
