"""Routing of experts in C: what PyTorch's does, for any router, with any share of the experts."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from backend.native import absence, kernels
from backend.ops.native import NativeOps
from backend.ops.reference import ReferenceOps
from backend.ops.routing import Router, SharedExpert, choose
from tests.backend.routers import plain_router
from tests.backend.stored_weights import randn

pytestmark = pytest.mark.skipif(kernels is None, reason=absence)

ORACLE = ReferenceOps()
NUM, TOP_K, WIDTH = 39, 5, 72
PLAIN = plain_router(NUM, TOP_K)
ROUTERS = {
    "softmax": PLAIN,
    "sigmoid": replace(PLAIN, score="sigmoid", renormalise=False, weight_scale=2.5),
    "bias": replace(PLAIN, bias=randn(NUM, seed=1), logit_scale=0.3),
    "scales": replace(PLAIN, scales=randn(NUM, seed=2)),
    "groups": replace(
        PLAIN, score="sigmoid", correction=randn(NUM, seed=3), num_groups=13, top_groups=4
    ),
    "groups by their best": replace(PLAIN, num_groups=3, top_groups=2, group_score="best"),
    "all": replace(PLAIN, top_k=NUM),
}


@pytest.fixture(params=ROUTERS)
def router(request: pytest.FixtureRequest) -> Router:
    return ROUTERS[request.param]


@pytest.mark.parametrize("own", [range(NUM), range(11), range(11, 30), range(30, NUM)])
@pytest.mark.parametrize("tokens", [1, 700])
def test_rows_go_to_the_experts_of_the_oracle(router: Router, own: range, tokens: int) -> None:
    router = replace(router, own=own)
    logits = 3 * randn(tokens, NUM, seed=9)
    got, expected = NativeOps().route(logits, router), ORACLE.route(logits, router)
    torch.testing.assert_close(got.weights, expected.weights, rtol=2e-5, atol=1e-7)
    assert torch.equal(got.ends, expected.ends)
    count = int(got.ends[-1])
    assert got.rows[:count].tolist() == expected.rows.tolist()
    assert got.places is not None
    assert (got.places >= 0).sum() == count
    assert got.places[got.rows[:count].long()].tolist() == [*range(count)]


def test_first_of_equal_experts_is_chosen() -> None:
    logits = torch.zeros(2, NUM)
    logits[1, 20:] = 1.0
    routes = NativeOps().route(logits, PLAIN)
    assert sorted(routes.rows.tolist()) == [*range(2 * TOP_K)]
    counts = routes.ends.diff(prepend=torch.zeros(1, dtype=torch.int64))
    assert torch.nonzero(counts).flatten().tolist() == [*range(TOP_K), *range(20, 20 + TOP_K)]
    torch.testing.assert_close(routes.weights, torch.full((2, TOP_K), 1 / TOP_K))


def test_token_with_nan_changes_no_other(router: Router) -> None:
    logits = randn(3, NUM, seed=4)
    expected = NativeOps().route(logits, router).weights
    broken = logits.clone()
    broken[1, 7] = torch.nan
    weights = NativeOps().route(broken, router).weights
    assert torch.equal(weights[::2], expected[::2])
    if router.score == "softmax":
        assert weights[1].isnan().all()


@pytest.mark.parametrize("own", [range(NUM), range(11, 30)])
@pytest.mark.parametrize("shares", ["nothing", "with all", "by a gate"])
def test_sums_are_those_of_the_oracle(own: range, shares: str) -> None:
    tokens, router = 23, replace(PLAIN, own=own)
    logits = randn(tokens, NUM, seed=5)
    x = randn(tokens, WIDTH, seed=6).bfloat16()
    shared = None
    if shares != "nothing":
        gate = randn(WIDTH, seed=8) / 8 if shares == "by a gate" else None
        shared = SharedExpert(randn(tokens, WIDTH, seed=7).bfloat16(), x, gate)

    def results(ops: NativeOps | ReferenceOps) -> Tensor:
        routes = ops.route(logits, router)
        rows = ops.gather_rows(x, routes)
        count = int(routes.ends[-1])
        rows[count:] = torch.nan  # nobody's
        experts = torch.arange(len(own)).repeat_interleave(
            routes.ends.diff(prepend=torch.zeros(1, dtype=torch.int64))
        )
        rows[:count] *= 1 + experts[:, None] / 8
        return ops.sum_experts(rows, routes, shared)

    got, expected = results(NativeOps()), results(ORACLE)
    torch.testing.assert_close(got, expected, rtol=2**-7, atol=2**-8)
    if shares != "by a gate":
        assert (got == expected).float().mean() > 0.99


def test_more_experts_than_the_kernel_has_room_for_are_pytorchs() -> None:
    router = replace(PLAIN, num=1100, own=range(1100))
    logits = randn(2, 1100)
    routes = NativeOps().route(logits, router)
    assert routes.places is None
    assert torch.equal(routes.weights, choose(logits, router)[1])
    x = randn(2, WIDTH).bfloat16()
    rows = NativeOps().gather_rows(x, routes)
    torch.testing.assert_close(NativeOps().sum_experts(rows, routes), x, rtol=2**-7, atol=2**-8)
