"""Modules that are replaced by ours are those whose code does the same, by whatever name."""

import torch
from torch import Tensor, nn

from backend.models.foreign_fusion import (
    FusedRMSNorm,
    activation_of_gated_mlp,
    is_rms_norm,
    shares_input,
)
from backend.ops.cpu import CpuOps


class Gated(nn.Module):
    """The usual MLP under another name."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(8, 16), nn.Linear(8, 16)
        self.down_proj = nn.Linear(16, 8)
        self.act_fn = act

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states))
        return out


class GatedTheOtherWay(Gated):
    """Up is activated, and gate is not."""

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act_fn(self.up_proj(states)) * self.gate_proj(states))
        return out


def test_mlp_is_known_by_what_it_does() -> None:
    assert activation_of_gated_mlp(Gated(nn.SiLU())) == "silu"
    assert activation_of_gated_mlp(GatedTheOtherWay(nn.SiLU())) is None
    assert activation_of_gated_mlp(Gated(nn.Hardtanh())) is None


def test_norms_of_transformers_are_known() -> None:
    from transformers.models.cohere.modeling_cohere import CohereLayerNorm
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.seed_oss.modeling_seed_oss import SeedOssRMSNorm

    assert is_rms_norm(LlamaRMSNorm(32)) and is_rms_norm(SeedOssRMSNorm(32))
    # One adds an offset to its weight, the other takes the mean away.
    assert not is_rms_norm(Gemma2RMSNorm(32))
    assert not is_rms_norm(CohereLayerNorm(32))


def test_fused_norm_gives_the_same() -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(32, eps=1e-3)
    norm.weight.data = torch.randn(32)
    x = torch.randn(1, 5, 3, 32).transpose(1, 2)
    ours = FusedRMSNorm(CpuOps(), norm.variance_epsilon, norm.weight.data)
    torch.testing.assert_close(ours(x), norm(x))


def test_projections_share_an_input_if_they_are_alike() -> None:
    attention = nn.Module()
    attention.q_proj, attention.k_proj = nn.Linear(8, 16), nn.Linear(8, 4)
    assert not shares_input(attention)
    attention.v_proj = nn.Linear(8, 4, bias=False)
    assert not shares_input(attention)
    attention.v_proj = nn.Linear(8, 4)
    assert shares_input(attention)
