"""Expert parallelism: each rank of a process group holds a share of the experts, and rows travel to their experts.

Shape suffixes: N tokens of this rank, D width, E experts of all ranks together, K experts chosen per token, M = N*K
rows this rank sends, W ranks, L = E/W experts of this rank, R rows this rank receives, F output width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from fun_asr.kernels.routing import Routing, combine, group_by_expert


def local_experts(num_experts: int, *, group: dist.ProcessGroup | None = None) -> slice:
    """Return the experts that this rank holds: an equal share, in the order of the ranks.

    Args:
        num_experts: E, over all ranks.
        group: Process group; the default one if None. Without any, this process is the only rank.

    Returns:
        The slice ``r*E/W`` to ``(r+1)*E/W`` of rank r, to cut this rank's share out of weights ``[E, ...]``.

    Raises:
        ValueError: E is not a multiple of the number of ranks, or this process is not in the group.
    """
    rank, W = 0, 1
    if dist.is_available() and dist.is_initialized():
        rank, W = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise ValueError("this process is not in the group: only its members hold experts")
    if num_experts % W:
        raise ValueError(f"{num_experts} experts cannot be split evenly over {W} ranks")
    L = num_experts // W
    return slice(rank * L, (rank + 1) * L)


def parallel_experts(
    x_ND: Tensor,
    routing: Routing,
    experts: Callable[[Tensor, Tensor], Tensor],
    *,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Send each token to the ranks that hold its experts, apply them there, and return its weighted sum over them.

    Each expert sees its rows in the order of the ranks and of their tokens, as in one process on all tokens, so that
    output and gradients are those of that process up to rounding, and the same in every run. No row is dropped.
    Differentiable in ``x_ND``, ``routing.weights_NK`` and whatever ``experts`` uses: the gradient of an exchange is the
    reverse exchange. The gradient of a local expert covers the tokens of all ranks already.

    All ranks of the group must call this together and agree on E, D, the dtype and whether gradients are enabled. With
    gradients enabled all must also run the backward pass, a rank without tokens included: an absent rank keeps the
    others waiting until the group's time-out. N and K may differ. With one rank nothing is sent.

    Args:
        x_ND: This rank's tokens ``[N, D]``; N may be 0.
        routing: Routing of these tokens over all E experts, from ``route``.
        experts: Takes rows ``[R, D]`` sorted by local expert and the end offset of each local expert's rows ``[L]``,
            int32, as ``grouped_matmul`` takes them; returns rows ``[R, F]``. R may be 0.
        group: Process group; the default one if None. Without any, this process is the only rank.

    Returns:
        Tokens ``[N, F]`` in the dtype that ``experts`` returns.

    Raises:
        ValueError: Shapes disagree, an expert is out of range, E is not a multiple of the number of ranks, or this
            process is not in the group.

    Source:
        The all-to-all dispatch of GShard (Lepikhin et al., 2020), without its capacity limit, as in MegaBlocks (Gale
        et al., 2022).
    """
    N, K = routing.experts_NK.shape
    E = routing.probs_NE.shape[1]
    if x_ND.ndim != 2 or x_ND.shape[0] != N:
        raise ValueError(f"expected x [{N}, D], as many tokens as were routed, got {list(x_ND.shape)}")
    local = local_experts(E, group=group)
    L = local.stop - local.start
    W = E // L
    order_M, offsets_E = group_by_expert(routing.experts_NK, E)
    # Not x[order // K]: its backward adds the K rows of a token with atomics, in an order that varies.
    rows_MD = x_ND.unsqueeze(1).expand(N, K, x_ND.shape[1]).flatten(0, 1)[order_M]
    if W == 1:
        return combine(_apply(experts, rows_MD, offsets_E), order_M, routing.weights_NK)

    sent_E = offsets_E.diff(prepend=offsets_E.new_zeros(1))
    received_WL = torch.empty_like(sent_E).view(W, L)
    dist.all_to_all_single(received_WL, sent_E.view(W, L), group=group)
    sent_W, received_W = torch.stack((sent_E.view(W, L), received_WL)).sum(dim=2).tolist()

    # A backward pass without the reverse exchange on one rank would leave the others waiting. The exchange out depends
    # on a tensor that always requires a gradient, though x may not, and the one back on the rows received, though
    # experts() may not have used them.
    always = x_ND.new_empty(0, requires_grad=True)
    received_RD: Tensor = _AllToAll.apply(rows_MD, always, sent_W, received_W, group)
    experts_R = torch.arange(L, device=x_ND.device).repeat(W)
    experts_R = experts_R.repeat_interleave(received_WL.flatten(), output_size=len(received_RD))
    order_R, offsets_L = group_by_expert(experts_R.unsqueeze(1), L)
    y_RF = _apply(experts, received_RD[order_R], offsets_L)[order_R.argsort()]
    y_MF: Tensor = _AllToAll.apply(y_RF, received_RD, received_W, sent_W, group)
    return combine(y_MF, order_M, routing.weights_NK)


def _apply(experts: Callable[[Tensor, Tensor], Tensor], rows_RD: Tensor, offsets_L: Tensor) -> Tensor:
    y_RF = experts(rows_RD, offsets_L)
    if y_RF.ndim != 2 or y_RF.shape[0] != rows_RD.shape[0]:
        raise ValueError(f"experts must return rows [{rows_RD.shape[0]}, F], got {list(y_RF.shape)}")
    return y_RF


class _AllToAll(torch.autograd.Function):
    """Send consecutive rows to consecutive ranks; the gradient takes the way back.

    The second tensor is not read: the result requires a gradient if it does, and its backward follows this one's.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, _: Tensor, sent_W: list[int], received_W: list[int], group: dist.ProcessGroup | None
    ) -> Tensor:
        ctx.way_back = received_W, sent_W, group
        return _exchange(rows, sent_W, received_W, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _exchange(gradient, *ctx.way_back), None, None, None, None


def _exchange(rows: Tensor, sent_W: list[int], received_W: list[int], group: dist.ProcessGroup | None) -> Tensor:
    received = rows.new_empty(sum(received_W), rows.shape[1])
    dist.all_to_all_single(received, rows.contiguous(), received_W, sent_W, group=group)
    return received
