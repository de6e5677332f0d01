"""The op table of a forward pass. A backend is one class with these methods.

reference.py is the oracle, slow and in fp32; cpu.py is what serves; exact.py trades speed for
results that do not depend on the rest of the batch.
"""

from typing import Any, Protocol

from torch import Tensor

from backend.config.spec import Activation, GateClamp, Norm
from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation, StateBatch
from backend.ops.delta_rule import DeltaHeads
from backend.ops.encoder_decoder import EncoderDecoderAttention
from backend.ops.gated_norm import GatedNorm
from backend.ops.latent import LatentAttention, RowNorm
from backend.ops.routing import Router, Routes, SharedExpert
from backend.ops.ssm_scan import SsmHeads
from backend.ops.tokenwise import Opening


class Ops(Protocol):
    """T tokens, H hidden, Hq query heads, Hkv KV heads, D head size; this rank's share of heads.

    name: what the operator is told. reads_8_bits: whether a cache may hold int8; reads_fp8: whether
    e4m3, as uint8. hides_unwritten: no place of a cache is read before it is written.
    is_capturable: they keep to what ops/triton/__init__.py asks for; captures_states: those of
    states do, too.
    """

    name: str
    reads_8_bits: bool
    reads_fp8: bool
    hides_unwritten: bool
    is_capturable: bool
    captures_states: bool

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Return s = x + delta and s / sqrt(mean(s^2) + eps) * weight, in x's dtype.

        x, delta: [T, H]. Without a delta s is x itself.
        """
        ...

    def add_layer_norm(
        self,
        x: Tensor,
        delta: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        """Return s = x + delta and (s - mean) / sqrt(variance + eps) * weight + bias.

        x, delta: [T, H], as above; weight, bias: [H], None for 1 and 0.
        """
        ...

    def head_norm(self, heads: Tensor, weight: Tensor | None, eps: float) -> None:
        """Normalise heads in place, each by itself, as add_rms_norm does.

        heads: [T, n, D], whose tokens may lie apart; weight: [D], None for 1.
        """
        ...

    def norm_each_head(self, heads: Tensor, weight: Tensor, norm: Norm) -> None:
        """Normalise heads in place, each by itself, times its own weights.

        heads: [T, n, D], whose tokens may lie apart; weight: [n, D].
        """
        ...

    def head_norm_into(self, heads: Tensor, weight: Tensor | None, eps: float, out: Tensor) -> None:
        """Write to out what head_norm makes of heads, both [T, n, D]; tokens may lie apart."""
        ...

    def gate_mul(self, gate_up: Tensor, activation: Activation) -> Tensor:
        """activation(gate) * up. gate_up: [T, 2 I] -> [T, I]."""
        ...

    def clamped_gate_mul(self, gate_up: Tensor, clamp: GateClamp) -> Tensor:
        """The gate of limits of config/spec.py. gate_up: [T, 2 I] -> [T, I]."""
        ...

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(x), [T, I]."""
        ...

    def gate_by(self, gate: Tensor, x: Tensor, opening: Opening) -> Tensor:
        """opening(gate) * x, [T, I]. gate, x: [T, I], whose tokens may lie apart."""
        ...

    def add(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        """(x + y) * scale, the sum as rounded, [T, H]."""
        ...

    def scale(self, x: Tensor, factor: float) -> Tensor:
        """x * factor, [T, H]."""
        ...

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up. gate_up: [T, 2 I] -> [T, I]."""
        ...

    def route(self, logits: Tensor, router: Router) -> Routes:
        """Send each token to its experts. logits: [T, experts] float32."""
        ...

    def gather_rows(self, x: Tensor, routes: Routes) -> Tensor:
        """Return the rows of x [T, W] that this rank's experts take, as they are routed."""
        ...

    def sum_experts(
        self, results: Tensor, routes: Routes, shared: SharedExpert | None = None
    ) -> Tensor:
        """Add up what experts give each token, by its weights, in float32 in the order of its
        choices, then the shared expert -> [T, W] in the dtype of results, [rows, W]."""
        ...

    def plan_attention(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> Any:
        """What the two below need and layers share that attend alike: indices and masks, made once
        a step.

        cache: of any layer, [blocks, 2, Hkv, block size, D], whose blocks may lie apart; how a
        head's part of a block lies is these ops' own affair. num_heads: Hq.
        """
        ...

    def plan_latent(
        self, batch: Batch, cache: Tensor, num_heads: int, value_dim: int
    ) -> LatentAttention:
        """What stores and attends to compressed rows in a step.

        cache: of any layer, [blocks, 1, 1, block size, W]. num_heads: H; value_dim: of a row, how
        many numbers are its value.
        """
        ...

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
        """Normalise and turn rows [T, W], as norm says, and write them into a layer's cache; turn
        what of queries turns.

        The first numbers of a row are normalised, those behind them, R, turn, as two halves or, if
        they are interleaved, as neighbours, which come to stand in two halves. turning: [T, H, R],
        which turns likewise and goes to the end of queries, [T, H, W], each head's. Tokens of rows
        and turning may lie apart, and so may heads of turning; both may be overwritten.
        """
        ...

    def plan_encoder_decoder(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> EncoderDecoderAttention:
        """What an encoder-decoder's layers attend with in a step.

        cache: of any layer, [blocks, 2, H, block size, D]. num_heads: H.
        """
        ...

    def rotate_store(self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: Any) -> None:
        """Rotate queries, in place, and keys; write keys and values into a layer's cache.

        qkv: [T, Hq + 2 Hkv, D], whose tokens may lie apart. The halves of each head are rotated:
        x cos + (x with its halves swapped) sin.
        """
        ...

    def rotate(self, heads: Tensor, rotation: Rotation) -> None:
        """Rotate heads [T, n, D], whose tokens may lie apart, in place, as rotate_store does."""
        ...

    def attention(self, q: Tensor, cache: Tensor, plan: Any, sinks: Tensor | None = None) -> Tensor:
        """Causal attention of q [T, Hq, D] over each sequence's blocks -> [T, Hq, D].

        sinks: [Hq] float32, scores beside those of the keys, which have no value.
        """
        ...

    def causal_conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        state: Tensor,
        states: StateBatch,
        activation: Activation | None,
    ) -> Tensor:
        """Return activation(sum over taps j of weight[j] * x[t - taps + 1 + j], + bias), [T, C].

        Each channel by itself; what is before a sequence's tokens comes from its state. x: [T, C],
        whose tokens may lie apart. weight: [taps, C]; bias: [C]; both float32, as are the sums.
        state: [slots, taps - 1, C] float32, the inputs of the last tokens, oldest first; read and
        written as `states` says. A token's bits depend on its own sequence alone, however its
        tokens are cut into steps.
        """
        ...

    def delta_rule(
        self,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        heads: DeltaHeads,
        state: Tensor,
        states: StateBatch,
    ) -> Tensor:
        """Run the gated delta rule over the tokens of each sequence -> [T, Hv, Dv]; see
        delta_rule.py for the formula.

        x: [T, 2 Hk Dk + Hv Dv], queries, keys and values of a token; a, b: [T, Hv], of its decay
        and of how much it writes. Tokens may lie apart, those of a and b alike. state:
        [slots, Hv, Dk, Dv] float32, read and written as `states` says; how a head's part of it lies
        is these ops' own affair.
        """
        ...

    def ssm_scan(
        self, x: Tensor, steps: Tensor, heads: SsmHeads, state: Tensor, states: StateBatch
    ) -> Tensor:
        """Run Mamba-2's state space over the tokens of each sequence -> [T, H, P]; see ssm_scan.py
        for the formula.

        x: [T, H P + 2 G N], x, B and C of a token; steps: [T, H]. Tokens may lie apart. state:
        [slots, H, P, N] float32, read and written as `states` says; how a head's part of it lies is
        these ops' own affair.
        """
        ...

    def gated_norm(
        self, x: Tensor, gate: Tensor, norm: GatedNorm, squares: Tensor | None = None
    ) -> Tensor:
        """What gated_norm.py says of each group by itself -> [T, n * D].

        x: [T, n, D]; gate: [T, n * D], whose tokens may lie apart. squares: [T, n] float32, the
        sums over all ranks of gated_squares, where each has a part of a group.
        """
        ...

    def gated_squares(self, x: Tensor, gate: Tensor, norm: GatedNorm) -> Tensor:
        """Return the sum of the squares of what gated_norm divides by their mean, [T, n] float32.

        x, gate: as gated_norm takes them.
        """
        ...
