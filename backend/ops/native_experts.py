"""Routing of experts in C; see backend/native/experts.h."""

import torch
from torch import Tensor

from backend.native import calls, kernels
from backend.ops.addresses import address_of
from backend.ops.routing import Router, Routes, RoutingOps, SharedExpert

# What the kernel has room for.
MAX_EXPERTS = 1024


class NativeExpertOps(RoutingOps):
    """See `Ops` for shapes. Logits are float32, everything else bf16; among equal scores the first
    expert is chosen. More experts than the kernel has room for are PyTorch's."""

    def route(self, logits: Tensor, router: Router) -> Routes:
        if router.num > MAX_EXPERTS:
            return super().route(logits, router)
        assert logits.is_contiguous()
        tokens, top_k, own = len(logits), router.top_k, router.own
        weights = torch.empty(tokens, top_k)
        rows = torch.empty(tokens * top_k, dtype=torch.int32)
        places = torch.empty_like(rows)
        ends = torch.empty(len(own), dtype=torch.int64)
        kernels.route(
            calls.Route(
                logits=logits.data_ptr(),
                logit_scale=router.logit_scale,
                bias=address_of(router.bias),
                correction=address_of(router.correction),
                scales=address_of(router.scales),
                weight_scale=router.weight_scale,
                is_sigmoid=router.score == "sigmoid",
                renormalise=router.renormalise,
                tokens=tokens,
                num=router.num,
                top_k=top_k,
                num_groups=router.num_groups,
                top_groups=router.top_groups,
                group_score=router.group_score == "two_best",
                first=own.start,
                count=len(own),
                weights=weights.data_ptr(),
                rows=rows.data_ptr(),
                places=places.data_ptr(),
                ends=ends.data_ptr(),
            )
        )
        return Routes(weights, rows, ends, len(own) < router.num, places)

    def gather_rows(self, x: Tensor, routes: Routes) -> Tensor:
        if routes.places is None:
            return super().gather_rows(x, routes)
        x = x.contiguous()
        out = torch.empty(len(routes.rows), x.shape[1], dtype=x.dtype)
        kernels.gather_rows(
            calls.GatherRows(
                x=x.data_ptr(),
                rows=routes.rows.data_ptr(),
                ends=routes.ends.data_ptr(),
                count=len(routes.ends),
                top_k=routes.weights.shape[1],
                width=x.shape[1],
                out=out.data_ptr(),
            )
        )
        return out

    def sum_experts(
        self, results: Tensor, routes: Routes, shared: SharedExpert | None = None
    ) -> Tensor:
        if routes.places is None:
            return super().sum_experts(results, routes, shared)
        assert results.is_contiguous()
        assert shared is None or (shared.out.is_contiguous() and shared.x.is_contiguous())
        tokens, top_k = routes.weights.shape
        out = torch.empty(tokens, results.shape[1], dtype=results.dtype)
        call = calls.SumExperts(
            results=results.data_ptr(),
            weights=routes.weights.data_ptr(),
            places=routes.places.data_ptr(),
            tokens=tokens,
            top_k=top_k,
            width=results.shape[1],
            out=out.data_ptr(),
        )
        if shared is not None:
            call.shared = shared.out.data_ptr()
        if shared is not None and shared.gate is not None:
            call.x, call.gate = shared.x.data_ptr(), shared.gate.data_ptr()
            call.gate_width = shared.x.shape[1]
        kernels.sum_experts(call)
        return out
