"""Attention of models that transformers' modelling code runs: our op table over the paged cache.

Their attention modules call `attend`, as which transformers knows it by ATTENTION_NAME. A name for
which no mask is registered has none built. Whoever runs the model hangs a ForeignAttention on each
of these modules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend.config.errors import ModelError
from backend.ops.batch import AttentionSpec, Batch, Rotation
from backend.ops.kv_cache import KVCache
from backend.ops.op_table import Ops
from backend.placement.sharding import Shard

ATTENTION_NAME = "unisono"
# The attribute of an attention module that has its ForeignAttention.
ATTRIBUTE = "unisono_attention"
# What modules pass on that changes nothing, whatever it says.
_HARMLESS = frozenset(
    "dropout position_ids cache_position use_cache output_attentions output_hidden_states "
    "return_dict output_router_logits is_causal position_embeddings layer_idx".split()
)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """See AttentionInterface of transformers: [1, H, T, D] each -> [1, T, Hq, D]."""
    attention: ForeignAttention = getattr(module, ATTRIBUTE)
    spec = AttentionSpec(scaling, softcap or 0.0, attention.window)
    if not attention.is_checked:
        attention.check(module, query, key, attention_mask, sliding_window, others)
    return attention.run(query, key, value, spec, s_aux), None


@dataclass(slots=True)
class ForeignStep:
    """The step that runs, for all layers of a rank: set by begin(). num_layers: that attend. who:
    whose code runs them."""

    ops: Ops
    num_heads: int
    num_layers: int
    dtype: torch.dtype
    who: str
    batch: Batch | None = None
    kv_cache: KVCache | None = None
    identity: Rotation | None = None
    plans: dict[tuple[int, AttentionSpec], Any] = field(default_factory=dict)
    num_attended: int = 0

    def begin(self, batch: Batch, kv_cache: KVCache) -> None:
        """Have the layers attend to this batch."""
        self.batch, self.kv_cache = batch, kv_cache
        self.plans.clear()
        self.identity = None
        self.num_attended = 0

    def end(self) -> None:
        """Let go of the batch. Raises ModelError if its layers did not attend once each."""
        if self.num_attended != self.num_layers:
            raise ModelError(
                f"{self.who} attends {self.num_attended} times in {self.num_layers} layers, and "
                "each has one place for its keys and values\n"
                "a GGUF file of the model in llama.cpp may serve it"
            )
        self.batch = self.kv_cache = self.identity = None
        self.plans.clear()

    def turn_nothing(self, states: Tensor) -> Rotation:
        """Return the rotation by an angle of 0: the model's own code has turned its heads."""
        if self.identity is None:
            shape = (len(states), 1, states.shape[-1])
            self.identity = states.new_ones(shape), states.new_zeros(shape)
        return self.identity

    def plan(self, group: int, cache: Tensor, spec: AttentionSpec) -> Any:
        """Return the plan of a cache group's layers that attend alike."""
        assert self.batch is not None
        if (plan := self.plans.get((group, spec))) is None:
            plan = self.ops.plan_attention(self.batch.group(group), cache, self.num_heads, spec)
            self.plans[group, spec] = plan
        return plan


@dataclass(slots=True)
class ForeignAttention:
    """Our side of one attention module. window: of its layer, 0 for none."""

    step: ForeignStep
    layer: int
    window: int
    shard: Shard
    num_heads: int
    num_kv_heads: int
    head_dim: int
    is_checked: bool = False

    def run(
        self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec, sinks: Tensor | None
    ) -> Tensor:
        """Store keys and values, and attend with this rank's heads -> [1, T, Hq, D]."""
        step = self.step
        assert step.kv_cache is not None
        cache = step.kv_cache.layer(self.layer)
        width = value.shape[-1]
        if width < self.head_dim:  # as in multi-head latent attention
            value = F.pad(value, (0, self.head_dim - width))
        if query.shape[1] != self.shard.num_heads:  # all ranks' heads, as norms of all need them
            query, key, value = (
                query[:, self.shard.heads],
                key[:, self.shard.kv_heads],
                value[:, self.shard.kv_heads],
            )
        # [1, H, T, D] each -> [T, Hq + 2 Hkv, D]
        qkv = torch.cat([part[0].transpose(0, 1) for part in (query, key, value)], dim=1)
        qkv = qkv.to(step.dtype)  # some classes turn heads in float32
        plan = step.plan(step.kv_cache.group_of(self.layer), cache, spec)
        step.ops.rotate_store(qkv, step.turn_nothing(qkv), cache, plan)
        if sinks is not None:
            sinks = sinks.float().view(-1)
            sinks = sinks[self.shard.heads] if len(sinks) == self.num_heads else sinks
            sinks = sinks.contiguous()
        out = step.ops.attention(qkv[:, : self.shard.num_heads], cache, plan, sinks)
        step.num_attended += 1
        return out[None, ..., :width]

    def check(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        window: int | None,
        others: Mapping[str, Any],
    ) -> None:
        """Raise ModelError if a module wants what paged attention does not do.

        Looked at once, in the warm-up: what a module asks for depends on its configuration alone.
        """
        who = f"transformers' {type(module).__name__} of layer {self.layer}"
        if mask is not None:
            raise ModelError(f"{who} makes an attention mask of its own, which is not served")
        if others.get("is_causal") is False or getattr(module, "is_causal", True) is False:
            raise ModelError(f"{who} lets tokens see those after them, which is not served")
        unknown = sorted(
            name
            for name, value in others.items()
            if name not in _HARMLESS and value is not None and value is not False
        )
        if unknown:
            raise ModelError(f"{who} attends with {unknown[0]}, which is not known here")
        if (window or 0) != self.window:
            raise ModelError(
                f"{who} sees a window of {window or 'all'} tokens, its configuration says "
                f"{self.window or 'all'}"
            )
        heads = (query.shape[1], key.shape[1])
        allowed = (
            (self.num_heads, self.num_kv_heads),
            (self.shard.num_heads, self.shard.num_kv_heads),
        )
        if heads not in allowed or key.shape[-1] != self.head_dim:
            raise ModelError(
                f"{who} has {heads[0]} query and {heads[1]} KV heads of {key.shape[-1]}, "
                f"expected were {allowed[1][0]} and {allowed[1][1]} of {self.head_dim}"
            )
        self.is_checked = True
