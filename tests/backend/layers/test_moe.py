"""Routers, shared experts and sums: what the families of test_families.py have none of as well."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import Experts, GateClamp
from backend.config.tensors import tensors_of
from backend.distributed.tensor_parallel import TensorParallel
from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.layers.moe import MixtureOfExperts
from backend.linear.registry import create_method
from backend.native import absence, kernels, levels
from backend.ops.cpu import CpuOps
from backend.ops.native import NativeOps
from backend.placement.sharding import split_model
from backend.quant.weight_format import WeightFormat
from backend.weights.slices import ALL
from tests.backend.factories import tiny_config
from tests.backend.stored_weights import randn
from tests.backend.tp_ranks import run_ranks

pytestmark = pytest.mark.numerics

HIDDEN = 64
PREFIX = "model.layers.0.mlp."
PLAIN = Experts(num=6, top_k=3, width=96)


@dataclass(slots=True)
class TensorsInMemory:
    """A checkpoint of random tensors."""

    tensors: dict[str, Tensor]
    left_over: list[str] = field(default_factory=list)

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> Tensor:
        tensor = self.tensors[name][rows]
        return (tensor if tensor.ndim == 1 else tensor[:, cols]).contiguous()

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        return WeightFormat.DENSE


def config_of(experts: Experts) -> ModelConfig:
    config = tiny_config(num_layers=1)
    [layer] = config.spec.layers
    layers = (msgspec.structs.replace(layer, mlp=experts),)
    spec = msgspec.structs.replace(config.spec, layers=layers)
    return msgspec.structs.replace(config, spec=spec)


def tensors_for(experts: Experts) -> dict[str, Tensor]:
    infos = tensors_of(config_of(experts)).items()
    return {
        name: randn(*info.shape, seed=seed) * info.shape[-1] ** -0.5
        for seed, (name, info) in enumerate(infos)
        if name.startswith(PREFIX)
    }


def layer_of(
    experts: Experts,
    tensors: dict[str, Tensor],
    tp: TensorParallel | None = None,
    *,
    level: str = "torch",
    expert_parallel: bool = False,
) -> MixtureOfExperts:
    """level: of linear/registry.py; "native": the best of our own."""
    tp = tp or TensorParallel()
    cpu, config = torch.device("cpu"), config_of(experts)
    is_ours = level == "native"
    dtype = torch.bfloat16 if is_ours else torch.float32
    method = create_method("auto", levels()[0] if is_ours else level, dtype, cpu)
    ops: Any = NativeOps() if is_ours else CpuOps()
    context = ComputeContext(dtype, cpu, ops, method, tp)
    shard = split_model(config, tp.size, expert_parallel=expert_parallel)[tp.rank]
    checkpoint: Any = TensorsInMemory(tensors)
    loader = WeightLoader(checkpoint, config, shard, context, lambda fraction: None)
    return MixtureOfExperts(loader.at(PREFIX.removesuffix(".")), experts, context)


def plainly(experts: Experts, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Token by token, as the papers have it."""

    def mlp(name: str, row: Tensor) -> Tensor:
        gate, up, down = (
            tensors[f"{PREFIX}{name}.{p}_proj.weight"] for p in ("gate", "up", "down")
        )
        biases = [torch.zeros(())] * 3
        if experts.has_bias and name != "shared":
            biases = [tensors[f"{PREFIX}{name}.{p}_proj.bias"] for p in ("gate", "up", "down")]
        g, u = gate @ row + biases[0], up @ row + biases[1]
        if clamp := experts.clamp:
            g, u = g.clamp(max=clamp.limit), u.clamp(-clamp.limit, clamp.limit) + clamp.offset
            return down @ (g * torch.sigmoid(clamp.alpha * g) * u) + biases[2]
        gated = F.gelu(g) if experts.activation == "gelu" else F.silu(g)
        return down @ (gated * u) + biases[2]

    out = []
    for row in x:
        logits = tensors[f"{PREFIX}router.weight"] @ row
        if experts.router_bias:
            logits = logits + tensors[f"{PREFIX}router.bias"]
        scores = logits.sigmoid() if experts.router == "sigmoid" else logits.softmax(0)
        ranked = scores
        if experts.has_correction:
            ranked = scores + tensors[f"{PREFIX}router_correction.bias"]
        if experts.num_groups > 1:
            size = experts.num // experts.num_groups
            best = [group.sort(descending=True).values for group in ranked.split(size)]
            groups = torch.stack(
                [group[0] if experts.group_score == "best" else group[:2].sum() for group in best]
            )
            kept = groups.topk(experts.top_groups).indices.repeat_interleave(size) * size
            kept += torch.arange(size).repeat(experts.top_groups)
            ranked = torch.full_like(ranked, -torch.inf).index_copy(0, kept, ranked[kept])
        chosen = ranked.topk(experts.top_k).indices
        weights = scores[chosen]
        if experts.renormalise:
            weights = weights / weights.sum()
        weights = weights * experts.weight_scale
        total = sum(
            (w * mlp(f"experts.{e}", row) for e, w in zip(chosen.tolist(), weights, strict=True)),
            torch.zeros(HIDDEN),
        )
        if experts.shared_width:
            shared = mlp("shared", row)
            if experts.shared_gate:
                shared = shared * torch.sigmoid(tensors[f"{PREFIX}shared_gate.weight"] @ row)
            total = total + shared
        out.append(total)
    return torch.stack(out)


KINDS = {
    "softmax": PLAIN,
    "softmax, not renormalised": msgspec.structs.replace(PLAIN, renormalise=False),
    "sigmoid": msgspec.structs.replace(PLAIN, router="sigmoid"),
    "corrected and scaled": msgspec.structs.replace(
        PLAIN, router="sigmoid", has_correction=True, weight_scale=2.5
    ),
    "shared": msgspec.structs.replace(PLAIN, shared_width=64),
    "shared with a gate": msgspec.structs.replace(PLAIN, shared_width=64, shared_gate=True),
    "gelu": msgspec.structs.replace(PLAIN, activation="gelu"),
    "biases": msgspec.structs.replace(PLAIN, has_bias=True, router_bias=True),
    "two of three groups": msgspec.structs.replace(
        PLAIN, router="sigmoid", has_correction=True, num_groups=3, top_groups=2
    ),
    "two of three groups, by their best": msgspec.structs.replace(
        PLAIN, renormalise=False, num_groups=3, top_groups=2, group_score="best"
    ),
    "gates of limits": msgspec.structs.replace(
        PLAIN, has_bias=True, clamp=GateClamp(0.5, 1.7, 1.0)
    ),
    "gates of limits that gate nothing more": msgspec.structs.replace(PLAIN, clamp=GateClamp(0.7)),
    "all chosen": msgspec.structs.replace(PLAIN, top_k=6),
}


@pytest.fixture(params=KINDS)
def experts(request: pytest.FixtureRequest) -> Experts:
    return KINDS[request.param]


def test_tokens_go_through_the_experts_that_they_choose(experts: Experts) -> None:
    tensors, x = tensors_for(experts), randn(23, HIDDEN, seed=99)
    torch.testing.assert_close(
        layer_of(experts, tensors).forward(x), plainly(experts, tensors, x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("expert_parallel", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_give_the_same_together(experts: Experts, size: int, expert_parallel: bool) -> None:
    """One token as well: some ranks' experts have none."""
    tensors, x = tensors_for(experts), randn(23, HIDDEN, seed=99)
    expected = plainly(experts, tensors, x)

    def forward(tp: TensorParallel) -> list[Tensor]:
        layer = layer_of(experts, tensors, tp, expert_parallel=expert_parallel)
        return [layer.forward(x), layer.forward(x[:1]), layer.forward(x[:0])]

    for several, one, none in run_ranks(size, forward):
        torch.testing.assert_close(several, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one, expected[:1], rtol=1e-5, atol=1e-5)
        assert none.shape == (0, HIDDEN)


@pytest.mark.skipif(kernels is None, reason=absence)
def test_our_kernels_come_close(experts: Experts) -> None:
    """bf16: eight bits of mantissa, sums of a few hundred products of about 1 / 8."""
    tensors = {name: t.bfloat16().float() for name, t in tensors_for(experts).items()}
    x = randn(23, HIDDEN, seed=99).bfloat16()
    got = layer_of(experts, tensors, level="native").forward(x).float()
    torch.testing.assert_close(got, plainly(experts, tensors, x.float()), rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("level", ["exact", "native"])
def test_token_alone_has_the_bits_it_has_among_others(experts: Experts, level: str) -> None:
    if level == "native" and kernels is None:
        pytest.skip(absence)
    layer = layer_of(experts, tensors_for(experts), level=level)
    x = randn(31, HIDDEN, seed=7).to(torch.bfloat16 if level == "native" else torch.float32)
    together = layer.forward(x)
    for rows in (slice(0, 1), slice(30, 31), slice(4, 6), slice(9, 28)):
        assert torch.equal(layer.forward(x[rows]), together[rows])


class DeviceOps(CpuOps):
    """As a GPU's, on which nothing is read by the host."""

    is_capturable = True


@pytest.mark.parametrize("size", [1, 2, 3])
def test_assignments_without_the_host_sum_to_the_same(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole experts on each rank: a rank's rows come first, others' are nothing."""
    pytest.importorskip("triton", reason="Triton is not installed")
    tensors = tensors_for(PLAIN)
    x = randn(9, HIDDEN, seed=3)

    def outputs(tp: TensorParallel) -> tuple[Tensor, Tensor]:
        layer = layer_of(PLAIN, tensors, tp, expert_parallel=True)
        plain = layer.forward(x)
        layer._ops = DeviceOps()
        routes = layer._ops.route(layer._logits(x), layer._how)
        num_rows = routes.weights.numel()
        assert len(routes.rows) == num_rows and routes.has_others == (size > 1)
        assert sorted(routes.rows.tolist()) == list(range(num_rows))
        # What multiplies on a GPU leaves rows alone that are nobody's here.
        for weight in (layer._up, layer._down):
            monkeypatch.setattr(weight, "_product", Leaving(weight._product))
        return plain, layer.forward(x)

    for plain, on_device in run_ranks(size, outputs):
        torch.testing.assert_close(on_device, plain, rtol=1e-5, atol=1e-6)


class Leaving:
    """A grouped product that writes rows of groups alone."""

    def __init__(self, product: Any) -> None:
        self._product = product

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        rows = self._product.apply(x[: int(ends[-1])], ends)
        out = torch.full((len(x), rows.shape[1]), torch.nan)
        out[: len(rows)] = rows
        return out

    def apply_gated(self, x: Tensor, ends: Tensor, gating: Any) -> Tensor:
        computed: Tensor = gating.compute(self.apply(x, ends))
        return computed
