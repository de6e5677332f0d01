"""Ops that treat each token by itself, in stock torch, for tables that have none of their own."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.spec import Activation, GateClamp, Norm
from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation
from backend.ops.encoder_decoder import EncoderDecoderAttention
from backend.ops.latent import LatentAttention, RowNorm

# What becomes of a gate before it multiplies.
Opening = Activation | Literal["sigmoid", "linear"]


class TokenwiseOps:
    """See `Ops` for shapes."""

    reads_8_bits = False
    reads_fp8 = False
    hides_unwritten = False
    is_capturable = False
    captures_states = False
    # A token by itself has the same bits in any batch.
    _latent_tile = 1

    def plan_latent(
        self, batch: Batch, cache: Tensor, num_heads: int, value_dim: int
    ) -> LatentAttention:
        return LatentAttention(batch, cache, self._latent_tile)

    def store_latent(
        self,
        rows: Tensor,
        turning: Tensor,
        queries: Tensor,
        norm: RowNorm,
        rotation: Rotation,
        cache: Tensor,
        plan: LatentAttention,
    ) -> None:
        rank = len(norm.weight)
        self.head_norm(rows[:, None, :rank], norm.weight, norm.eps)
        for x, out in (
            (rows[:, None, rank:], rows[:, None, rank:]),
            (turning, queries[..., rank:]),
        ):
            turned = norm.in_halves(x)
            self.rotate(turned, rotation)
            out.copy_(turned)
        plan.store(rows, cache)

    def plan_encoder_decoder(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> EncoderDecoderAttention:
        is_alone = self._latent_tile == 1
        return EncoderDecoderAttention(batch, cache, num_heads, spec, is_alone=is_alone)

    def add_layer_norm(
        self,
        x: Tensor,
        delta: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        if delta is not None:
            x = x + delta
        return x, F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def rotate(self, heads: Tensor, rotation: Rotation) -> None:
        cos, sin = rotation
        heads.copy_(torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin))

    def head_norm(self, heads: Tensor, weight: Tensor | None, eps: float) -> None:
        wide = None if weight is None else weight.float()
        heads.copy_(F.rms_norm(heads.float(), heads.shape[-1:], wide, eps))

    def norm_each_head(self, heads: Tensor, weight: Tensor, norm: Norm) -> None:
        wide, width = heads.float(), heads.shape[-1:]
        normed = F.layer_norm if norm.kind == "layer" else F.rms_norm
        heads.copy_(normed(wide, width, eps=norm.eps) * weight.float())

    def head_norm_into(self, heads: Tensor, weight: Tensor | None, eps: float, out: Tensor) -> None:
        self.head_norm(out.copy_(heads), weight, eps)

    def gate_mul(self, gate_up: Tensor, activation: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return self.activate(gate, activation) * up

    def clamped_gate_mul(self, gate_up: Tensor, clamp: GateClamp) -> Tensor:
        gate, up = gate_up.float().chunk(2, dim=-1)
        gate, up = gate.clamp(max=clamp.limit), up.clamp(-clamp.limit, clamp.limit)
        gated = gate * torch.sigmoid(clamp.alpha * gate) * (up + clamp.offset)
        return gated.to(gate_up.dtype)

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        return activate(x, activation)

    def gate_by(self, gate: Tensor, x: Tensor, opening: Opening) -> Tensor:
        match opening:
            case "linear":
                return gate * x
            case "sigmoid":
                return (x * torch.sigmoid(gate.float())).to(x.dtype)
            case _:
                return self.activate(gate, opening) * x

    def add(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        total = x + y
        return total if scale == 1.0 else total * scale

    def scale(self, x: Tensor, factor: float) -> Tensor:
        return x * factor


def sigmoid(x: Tensor) -> Tensor:
    """Return sigmoid(x), float32, the same bits wherever a number stands.

    PyTorch computes 64 numbers by vectors and what is left of them one by one, which rounds
    otherwise; what that is in float64 is gone in float32.
    """
    return x.double().sigmoid().float()


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Return activation(x), in x's dtype."""
    match activation:
        case "silu":
            return F.silu(x)
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "relu":
            return torch.relu(x)
        case "relu2":
            return torch.relu(x).square()
