"""Routers of experts for tests."""

from backend.ops.routing import Router


def plain_router(num: int, top_k: int) -> Router:
    """One that weighs all experts by softmax, with nothing else that a router may have."""
    return Router(
        num=num,
        top_k=top_k,
        own=range(num),
        score="softmax",
        renormalise=True,
        weight_scale=1.0,
        bias=None,
        correction=None,
        scales=None,
        logit_scale=1.0,
        num_groups=1,
        top_groups=1,
        group_score="two_best",
    )
