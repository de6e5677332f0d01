"""How ranks share a model of transformers: by its own plan, cut as all our models are.

Attention is cut by KV heads, unevenly where they do not divide, MLPs by columns; what has no place
in that is whole on every rank, or, in attention, is why several ranks cannot serve the model.
"""

import enum
import re
from collections.abc import Collection
from typing import Any

from torch import nn

from backend.config.model_config import ModelConfig
from backend.config.tensor_info import Cut, TensorInfo

# For modules that a class's plan does not mention, whose linears are just these.
_USUAL_PLANS = (
    {"q_proj": "colwise", "k_proj": "colwise", "v_proj": "colwise", "o_proj": "rowwise"},
    {"gate_proj": "colwise", "up_proj": "colwise", "down_proj": "rowwise"},
)


class Role(enum.Enum):
    """What ranks share of a linear: its features, its features gathered again, or its inputs."""

    WHOLE = enum.auto()
    FEATURES = enum.auto()
    GATHERED = enum.auto()
    INPUTS = enum.auto()


_ROLES = {
    "colwise": Role.FEATURES,
    "colwise_gather_output": Role.GATHERED,
    "rowwise": Role.INPUTS,
    "rowwise_split_input": Role.INPUTS,
}


class SharingPlan:
    """Says of each parameter what ranks hold of it."""

    def __init__(
        self,
        config: ModelConfig,
        causal: Any,
        modules: dict[str, nn.Module],
        attention: Collection[str],
        base: str,
    ) -> None:
        """base: the module whose plan the class has."""
        self._config = config
        self._modules = modules
        self._attention = tuple(f"{name}." for name in attention)
        self._plan = _tp_plan(causal, base)
        self.roles: dict[str, Role] = {}
        self.gathering: set[str] = set()
        self.why_whole = "" if self._plan else "its class has no plan of how ranks would share it"
        for name, module in modules.items():
            if type(module) is nn.Linear:
                self.roles[name] = self._role(name)

    def info(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        """Return a parameter's share."""
        module, _, kind = name.rpartition(".")
        role = self.roles.get(module)
        in_attention = name.startswith(self._attention)
        if role is None:
            if in_attention:
                return self._in_attention(name, shape)
            is_table = type(self._modules.get(module)) is nn.Embedding and len(shape) == 2
            is_input = is_table and self._modules[module].num_embeddings == self._config.vocab_size
            return TensorInfo(shape, is_plain=not is_input)
        if role is Role.WHOLE or (role is Role.INPUTS and kind == "bias"):
            return TensorInfo(shape)
        axis = 1 if role is Role.INPUTS else 0
        return TensorInfo(shape, self._cut(name, shape[axis], role, in_attention))

    def _role(self, name: str) -> Role:
        style = self._plan.get(_wildcard(name), "")
        role = _ROLES.get(style, Role.WHOLE)
        parent = name.rpartition(".")[0]
        if f"{parent}." in self._attention:
            if role is Role.GATHERED:
                self.gathering.add(parent)
            if role is Role.WHOLE and self._is_of_heads(name):
                self._refuse_to_share(name)
        return role

    def _cut(self, name: str, size: int, role: Role, in_attention: bool) -> Cut:
        config = self._config
        if not in_attention:
            return Cut.MLP_COLUMNS if role is Role.INPUTS else Cut.MLP_ROWS
        if size == config.num_heads * config.head_dim:
            return Cut.QUERY_COLUMNS if role is Role.INPUTS else Cut.QUERY_ROWS
        if size == config.num_kv_heads * config.head_dim and role is not Role.INPUTS:
            return Cut.KV_ROWS
        if role is Role.GATHERED:  # fused: everybody makes all heads, and keeps its own
            self.roles[name.rpartition(".")[0]] = Role.WHOLE
            return Cut.WHOLE
        self._refuse_to_share(name)
        return Cut.WHOLE

    def _in_attention(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        """Return the share of what is no linear: norms of heads are everybody's."""
        config = self._config
        if shape == (config.head_dim,):
            if isinstance(self._modules.get(name.rsplit(".", 2)[0]), nn.ModuleList):
                self._refuse_to_share(name)  # one of each head
            return TensorInfo(shape)
        is_gathered = any(name.startswith(f"{module}.") for module in self.gathering)
        if not is_gathered and shape != (config.num_heads,):
            self._refuse_to_share(name)
        return TensorInfo(shape, is_plain=True)

    def _is_of_heads(self, name: str) -> bool:
        """Whether a linear of an attention module makes or takes heads."""
        linear = self._modules[name]
        dim = self._config.head_dim
        sizes = {self._config.num_heads * dim, self._config.num_kv_heads * dim}
        return linear.out_features in sizes or linear.in_features in sizes

    def _refuse_to_share(self, name: str) -> None:
        self.why_whole = self.why_whole or f"{name} cannot be cut by heads"


def _tp_plan(causal: Any, base: str) -> dict[str, str]:
    """Return module -> style, numbers of layers as *: what a class says, and what usual names mean
    where it says nothing of a module that has them all."""
    theirs = getattr(causal.config.get_text_config(), "base_model_tp_plan", None) or {}
    plan = {f"{base}.{name}": str(style) for name, style in theirs.items()}
    for name, module in causal.named_modules():
        for usual in _USUAL_PLANS:
            linears = {part for part, child in module.named_children() if type(child) is nn.Linear}
            said = any(_wildcard(f"{name}.{part}") in plan for part in linears)
            if usual.keys() == linears and not said:
                plan |= {_wildcard(f"{name}.{part}"): usual[part] for part in linears}
    return plan


def _wildcard(name: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)
