"""Fills a model of transformers: with this rank's weights, and with our layers for its own.

Owns what stands where: packed linears by the plan, what our kernels do in one go, the table of
tokens, and all other parameters as they are. The head is foreign_model.py's.
"""

from typing import Any

import torch
from torch import Tensor, nn

from backend.config.spec import MLP, Activation
from backend.config.tensors import EMBEDDING
from backend.layers.compute_context import ComputeContext
from backend.layers.embedding import Embedding, VocabParallelHead
from backend.layers.linear_modules import (
    EmbeddingModule,
    GatheredLinear,
    MLPModule,
    PackedLinear,
    SharedInput,
    SharedLinear,
    SummedLinear,
)
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP
from backend.models.foreign_attention import ATTRIBUTE, ForeignAttention, ForeignStep
from backend.models.foreign_fusion import (
    FusedRMSNorm,
    activation_of_gated_mlp,
    is_rms_norm,
    shares_input,
)
from backend.models.foreign_plan import Role
from backend.models.transformers_backend import Skeleton
from backend.placement.sharding import Shard

# Attributes of attention modules, and fields of their configuration, that count heads.
_QUERY_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_KV_COUNTS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
# Our norm takes widths that are multiples of it.
LANES = 16
# What ranks share of linears that can be fused.
_QKV = dict.fromkeys(("q_proj", "k_proj", "v_proj"), Role.FEATURES)
_MLP = {"gate_proj": Role.FEATURES, "up_proj": Role.FEATURES, "down_proj": Role.INPUTS}


class ModuleFiller:
    """Puts this rank's weights, and our layers, into the modules of a skeleton."""

    def __init__(
        self, skeleton: Skeleton, loader: WeightLoader, shard: Shard, context: ComputeContext
    ) -> None:
        self._skeleton = skeleton
        self._causal = skeleton.causal
        self._loader = loader
        self._shard = shard
        self._context = context
        strict = getattr(self._causal, "_keep_in_fp32_modules_strict", None) or ()
        self._wide = tuple(strict)

    def fill(self, step: ForeignStep, tied: VocabParallelHead | None) -> None:
        """Fill all but the head. tied: the head, if tokens can be looked up in it."""
        layout = self._skeleton.layout
        for name in layout.attention:
            self._attach(name, step)
        fused = {part for name in self._names() for part in self._fuse(name)}
        for name, role in layout.linears.items():
            if name != layout.head and name not in fused:
                replace_module(self._causal, name, self._linear(name, role))
        if type(self._causal.get_submodule(layout.embedding)) is nn.Embedding:
            replace_module(self._causal, layout.embedding, self._embedding(tied))
        for entry in self._skeleton.converted:
            tensors = [self._loader.take(name) for name in entry.names]
            for name, value in entry.convert(tensors, self._causal).items():
                self._set(name, value)
        for name, parameter in list(self._causal.named_parameters()):
            if parameter.is_meta and not name.startswith(f"{layout.head}."):
                self._set(name, self._loader.take(layout.tables[name]))
        for name, buffer in list(self._causal.named_buffers()):
            saved = layout.tables.get(name)
            value = buffer if saved is None else self._loader.take(saved).to(buffer.dtype)
            self._set(name, value.to(self._context.device))

    def _names(self) -> list[str]:
        return [name for name, _ in self._causal.named_modules()]

    def _embedding(self, tied: VocabParallelHead | None) -> EmbeddingModule:
        config = self._skeleton.config
        module = EmbeddingModule(
            Embedding(self._loader, EMBEDDING, tied).forward, config.hidden_size
        )
        module.weight = self._no_numbers(config.vocab_size, config.hidden_size)
        return module

    def _fuse(self, name: str) -> list[str]:
        """Put one of ours in the place of a module if that computes the same; return the names of
        the linears that went with it."""
        try:
            module: Any = self._causal.get_submodule(name)
        except AttributeError:
            return []  # gone, with what it was in
        if is_rms_norm(module) and len(module.weight) % LANES == 0:
            weight = self._loader.take(self._skeleton.layout.tables[f"{name}.weight"])
            norm = FusedRMSNorm(self._context.ops, module.variance_epsilon, weight)
            replace_module(self._causal, name, norm)
        elif (activation := activation_of_gated_mlp(module)) and self._shares(name, _MLP):
            self._fuse_mlp(name, activation)
            return [f"{name}.{part}" for part in _MLP]
        elif shares_input(module) and self._shares(name, _QKV):
            self._fuse_qkv(name)
            return [f"{name}.{part}" for part in _QKV]
        return []

    def _linear(self, name: str, role: Role) -> PackedLinear:
        loader, tp = self._loader, self._context.tp
        table, module = self._skeleton.layout.tables, self._causal.get_submodule(name)
        packed = loader.pack(table[f"{name}.weight"])
        bias = loader.take(table[f"{name}.bias"]) if f"{name}.bias" in table else None
        made: PackedLinear
        if role is Role.INPUTS:
            columns = loader.columns(table[f"{name}.weight"])
            made = SummedLinear(packed, bias, module.in_features, columns, tp)
        elif role is Role.GATHERED and tp.size > 1:
            made = GatheredLinear(packed, bias, module.in_features, tp)
        else:
            made = PackedLinear(packed, bias, module.in_features)
        made.weight = self._no_numbers(packed.num_features, module.in_features)
        return made

    def _shares(self, name: str, roles: dict[str, Role]) -> bool:
        """Whether ranks share the linears of a module so, under names that stand together."""
        layout = self._skeleton.layout
        tables = {layout.tables.get(f"{name}.{part}.weight", "") for part in roles}
        prefixes = {table.removesuffix(".weight").rpartition(".")[0] for table in tables}
        are_shared = all(layout.linears[f"{name}.{part}"] is role for part, role in roles.items())
        return len(prefixes) == 1 and "" not in tables and (are_shared or self._shard.size == 1)

    def _fuse_mlp(self, name: str, activation: Activation) -> None:
        """Put our MLP in the place of theirs."""
        module = self._causal.get_submodule(name)
        table = self._skeleton.layout.tables[f"{name}.up_proj.weight"]
        has_bias = module.up_proj.bias is not None
        mlp = MLP(module.up_proj.out_features, activation, has_bias=has_bias)
        loader = self._loader.at(table.removesuffix(".up_proj.weight"))
        replace_module(self._causal, name, MLPModule(DenseMLP(loader, mlp, self._context)))

    def _fuse_qkv(self, name: str) -> None:
        """Have queries, keys and values multiplied together."""
        tables = self._skeleton.layout.tables
        module = self._causal.get_submodule(name)
        weights = [tables[f"{name}.{part}.weight"] for part in _QKV]
        widths = [self._loader.num_rows(weight) for weight in weights]
        stacked = self._loader.stack(weights)
        bias = None
        if module.q_proj.bias is not None:
            bias = torch.cat([self._loader.take(tables[f"{name}.{part}.bias"]) for part in _QKV])
        shared = SharedInput(stacked, bias, widths)
        for index, (part, width) in enumerate(zip(_QKV, widths, strict=True)):
            linear = SharedLinear(shared, index, module.q_proj.in_features, width)
            linear.weight = self._no_numbers(width, linear.in_features)
            replace_module(self._causal, f"{name}.{part}", linear)

    def _attach(self, name: str, step: ForeignStep) -> None:
        """Have an attention module know its layer, and how many heads this rank has."""
        module: Any = self._causal.get_submodule(name)
        config, shard = self._skeleton.config, self._shard
        layer = self._skeleton.layout.attention[name]
        attention = ForeignAttention(
            step,
            layer,
            config.spec.layers[layer].attends.window,
            shard,
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
        )
        setattr(module, ATTRIBUTE, attention)
        if shard.size > 1 and name not in self._skeleton.layout.gathering:
            for counts, own in (
                (_QUERY_COUNTS, shard.num_heads),
                (_KV_COUNTS, shard.num_kv_heads),
            ):
                for attribute in counts:
                    if isinstance(getattr(module, attribute, None), int):
                        setattr(module, attribute, own)

    def _set(self, name: str, value: Tensor) -> None:
        path, _, leaf = name.rpartition(".")
        module = self._causal.get_submodule(path)
        if any(part in name for part in self._wide):
            value = value.float()
        if leaf in module._buffers:
            module._buffers[leaf] = value
        else:
            module._parameters[leaf] = nn.Parameter(value, requires_grad=False)

    def _no_numbers(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self._context.dtype, device="meta")


def replace_module(causal: Any, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of that name."""
    path, _, leaf = name.rpartition(".")
    setattr(causal.get_submodule(path), leaf, module)
