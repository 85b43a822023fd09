"""The routed experts of a MoE layer as one fused operation: gather, two products an expert, activation, weighted sum.

Shape suffixes: N tokens, D width, E experts, K experts chosen per token, F hidden width of an expert, H width of the
first product (2 F with a gate, else F), R = N * K rows, one per token and chosen expert; n rows of one block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from fun_asr.kernels.grouped_matmul import autocast_dtype, grouped_matmul
from fun_asr.kernels.routing import Routing, combine, group_by_expert

ACTIVATIONS = ("swiglu", "gelu", "relu2")

# Rows of one expert that go through both products and the activation at a time, so that what lies between the products
# stays in the second-level cache: see README.md.
_BLOCK_ROWS = 512

METHODS = ("unsorted", "dense", "grouped", "blocks")

# Most rows R for which the rows are not sorted, float32 and narrower types.
_UNSORTED_MAX_ROWS = (8, 4)

# Most experts and most tokens, float32 and narrower types, for which every expert is computed for every token.
_DENSE_MAX_EXPERTS = 16
_DENSE_MAX_TOKENS = (8, 64)

# Most rows an expert, on average, for which many experts are two calls of grouped_matmul.
_GROUPED_MAX_ROWS_PER_EXPERT = 4


def expert_mlp(
    x_ND: Tensor,
    routing: Routing,
    w_in_EDH: Tensor,
    w_out_EFD: Tensor,
    *,
    activation: str = "swiglu",
    method: str | None = None,
) -> Tensor:
    """Return each token's weighted sum over its experts' feed-forward networks.

    Expert e computes ``act(x @ w_in[e]) @ w_out[e]``. Experts that no token chose add nothing, as long as their
    weights are finite. The sum over a token's experts has a fixed order, so the result does not vary from run to run.
    Under ``torch.autocast`` the operands are cast to the autocast dtype. Differentiable once in tokens, weights of the
    routing and both matrices.

    Args:
        x_ND: Tokens ``[N, D]``; any strides.
        routing: Experts and weights of each token, from ``route``.
        w_in_EDH: First matrices ``[E, D, H]``: gate and up projection side by side for "swiglu" (H = 2 F). With few
            rows an expert, matrices stored as ``nn.Linear`` stores its own, ``[E, H, D]``, and passed as ``w.mT`` are
            up to twice as fast.
        w_out_EFD: Second matrices ``[E, F, D]``; likewise.
        activation: "swiglu" (``silu(gate) * up``), "gelu", or "relu2" (``relu(x)`` squared, So et al., 2021).
        method: One of ``METHODS``; by default ``choose_method`` decides. All compute the same function. Only "grouped"
            and "blocks" have gradients.

    Returns:
        Tokens ``[N, D]`` in the operands' dtype, or in autocast's.

    Raises:
        ValueError: Shapes, dtypes or a name are wrong, or a gradient is asked of a method that has none.

    Source:
        SwiGLU experts as in DeepSeekMoE (Dai et al., 2024); sorted rows as in MegaBlocks (Gale et al., 2022).
    """
    _check(x_ND, routing, w_in_EDH, w_out_EFD, activation)
    dtype = autocast_dtype(x_ND)
    x_ND, w_in_EDH, w_out_EFD = x_ND.to(dtype), w_in_EDH.to(dtype), w_out_EFD.to(dtype)
    operands = (x_ND, routing.weights_NK, w_in_EDH, w_out_EFD)
    needs_grad = torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)
    if method is None:
        N, K = routing.experts_NK.shape
        method = choose_method(N, K, len(w_in_EDH), dtype=dtype, device=x_ND.device, needs_grad=needs_grad)
    elif method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if method == "grouped":
        return _grouped(x_ND, routing, w_in_EDH, w_out_EFD, activation)
    if needs_grad:
        if method != "blocks":
            raise ValueError(f"method {method!r} has no gradient: use grouped or blocks")
        y_ND: Tensor = _ExpertMLP.apply(x_ND, routing.weights_NK, routing.experts_NK, w_in_EDH, w_out_EFD, activation)
        return y_ND
    if method == "unsorted":
        return _unsorted(x_ND, routing, w_in_EDH, w_out_EFD, activation)
    if method == "dense":
        return _dense(x_ND, routing, w_in_EDH, w_out_EFD, activation)
    rows = sort_rows(routing.experts_NK, len(w_in_EDH))
    return _forward(x_ND, routing.weights_NK, rows, w_in_EDH, w_out_EFD, activation, None)


def choose_method(N: int, K: int, E: int, *, dtype: torch.dtype, device: torch.device, needs_grad: bool) -> str:
    """Name the fastest way to compute the layer, from the measurements in kernels/README.md.

    Args:
        N: Tokens.
        K: Experts of each.
        E: Experts.
        dtype: Dtype of the products.
        device: Device of the operands.
        needs_grad: Whether a backward pass will follow.

    Returns:
        "unsorted": each row reads its expert on its own; "dense": every expert for every token in two batched
        products, those not chosen weigh nothing (most are read anyway, and reading them is what costs); "grouped": two
        calls of ``grouped_matmul``, which neither wait for an accelerator nor break a compiled graph; "blocks": rows
        sorted by expert, a block of them at a time through the whole network of their expert.
    """
    R, narrow = N * K, dtype.itemsize < 4
    if device.type != "cpu" or torch.compiler.is_compiling():
        return "grouped"
    if needs_grad or R == 0:
        return "blocks"
    if R <= _UNSORTED_MAX_ROWS[narrow]:
        return "unsorted"
    if E <= min(R, _DENSE_MAX_EXPERTS) and N <= _DENSE_MAX_TOKENS[narrow]:
        return "dense"
    return "grouped" if E > _DENSE_MAX_EXPERTS and R <= _GROUPED_MAX_ROWS_PER_EXPERT * E else "blocks"


def _check(x_ND: Tensor, routing: Routing, w_in_EDH: Tensor, w_out_EFD: Tensor, activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    shapes = f"x {list(x_ND.shape)}, w_in {list(w_in_EDH.shape)}, w_out {list(w_out_EFD.shape)}"
    if x_ND.ndim != 2 or w_in_EDH.ndim != 3 or w_out_EFD.ndim != 3:
        raise ValueError(f"expected x [N, D], w_in [E, D, H] and w_out [E, F, D], got {shapes}")
    E, D, H = w_in_EDH.shape
    hidden = w_out_EFD.shape[1] * (2 if activation == "swiglu" else 1)
    if w_out_EFD.shape[0] != E or x_ND.shape[1] != D or w_out_EFD.shape[2] != D or hidden != H:
        raise ValueError(f"x [N, D], w_in [E, D, H] and w_out [E, F, D] must agree for {activation}, got {shapes}")
    if routing.experts_NK.shape[0] != x_ND.shape[0]:
        raise ValueError(f"{x_ND.shape[0]} tokens, but a routing of {routing.experts_NK.shape[0]}")
    dtypes = {x_ND.dtype, w_in_EDH.dtype, w_out_EFD.dtype}
    if len(dtypes) > 1 and not torch.is_autocast_enabled(x_ND.device.type):
        raise ValueError(f"x and both matrices must share one dtype outside autocast, got {dtypes}")


def activate(h_nH: Tensor, activation: str) -> Tensor:
    """Return the activation ``[n, F]`` of first products ``[n, H]``."""
    if activation == "gelu":
        return functional.gelu(h_nH)
    if activation == "relu2":
        return functional.relu(h_nH).square()
    gate_nF, up_nF = h_nH.chunk(2, dim=-1)
    return functional.silu(gate_nF).mul_(up_nF)


def _activate_backward(h_nH: Tensor, grad_nF: Tensor, activation: str) -> Tensor:
    """Return the gradient of the activation's input ``[n, H]``."""
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad_nF, h_nH)  # type: ignore[no-any-return]
    if activation == "relu2":
        return 2 * functional.relu(h_nH) * grad_nF
    gate_nF, up_nF = h_nH.chunk(2, dim=-1)
    d_gate_nF = torch.ops.aten.silu_backward(grad_nF * up_nF, gate_nF)
    return torch.cat((d_gate_nF, functional.silu(gate_nF).mul_(grad_nF)), dim=-1)


def _grouped(x_ND: Tensor, routing: Routing, w_in_EDH: Tensor, w_out_EFD: Tensor, activation: str) -> Tensor:
    """Compute the layer as two grouped products, which neither wait for an accelerator nor break a compiled graph."""
    order_R, offsets_E = group_by_expert(routing.experts_NK, len(w_in_EDH))
    h_RH = grouped_matmul(x_ND[order_R // routing.experts_NK.shape[1]], w_in_EDH, offsets_E)
    if activation == "swiglu":
        gate_RF, up_RF = h_RH.chunk(2, dim=-1)
        a_RF = functional.silu(gate_RF) * up_RF
    else:
        a_RF = activate(h_RH, activation)
    return combine(grouped_matmul(a_RF, w_out_EFD, offsets_E), order_R, routing.weights_NK)


def _unsorted(x_ND: Tensor, routing: Routing, w_in_EDH: Tensor, w_out_EFD: Tensor, activation: str) -> Tensor:
    rows = []
    for n, experts in enumerate(routing.experts_NK.tolist()):
        if min(experts) < 0 or max(experts) >= len(w_in_EDH):
            raise ValueError(f"experts must lie between 0 and {len(w_in_EDH) - 1}")
        h_KH = torch.cat([x_ND[n : n + 1] @ w_in_EDH[e] for e in experts])
        a_KF = activate(h_KH, activation) * routing.weights_NK[n, :, None].to(x_ND.dtype)
        y_1D = a_KF[:1] @ w_out_EFD[experts[0]]
        for k, e in enumerate(experts[1:], start=1):
            y_1D = torch.addmm(y_1D, a_KF[k : k + 1], w_out_EFD[e])
        rows.append(y_1D)
    return torch.cat(rows) if rows else torch.zeros_like(x_ND)


def _dense(x_ND: Tensor, routing: Routing, w_in_EDH: Tensor, w_out_EFD: Tensor, activation: str) -> Tensor:
    N, E = len(x_ND), len(w_in_EDH)
    a_ENF = activate(torch.matmul(x_ND, w_in_EDH), activation)
    weights_NE = routing.weights_NK.new_zeros(N, E).scatter_(1, routing.experts_NK, routing.weights_NK)
    weights_EN1 = weights_NE.T[..., None]
    a_ENF = a_ENF.mul_(weights_EN1.to(x_ND.dtype))
    a_ENF.masked_fill_(weights_EN1 == 0, 0)  # an overflow in an expert not chosen stays its own
    if w_out_EFD.is_contiguous():
        return a_ENF.transpose(0, 1).flatten(1) @ w_out_EFD.flatten(0, 1)
    return torch.bmm(a_ENF, w_out_EFD).sum(dim=0)


@dataclass(frozen=True)
class _Rows:
    """The R rows sorted by expert."""

    order_R: Tensor
    """Place of each sorted row among the N * K rows."""
    tokens_R: Tensor
    """Token of each sorted row."""
    offsets: list[int]
    """End of each expert's rows."""

    def blocks(self, most_rows: int) -> Iterator[tuple[int, int, int]]:
        """Yield expert, first row and end row of each block."""
        start = 0
        for e, end in enumerate(self.offsets):
            for first in range(start, end, most_rows):
                yield e, first, min(first + most_rows, end)
            start = end

    def start(self, e: int) -> int:
        """Return the first row of an expert."""
        return self.offsets[e - 1] if e else 0

    def unused(self) -> list[int]:
        """Return the experts without rows."""
        return [e for e, end in enumerate(self.offsets) if end == self.start(e)]

    def positions(self) -> Tensor:
        """Return where each of the N * K rows went."""
        places_R = torch.arange(len(self.order_R), device=self.order_R.device)
        return torch.empty_like(self.order_R).scatter_(0, self.order_R, places_R)


def sort_rows(experts_NK: Tensor, num_experts: int) -> _Rows:
    """Sort the R rows by expert."""
    order_R, offsets_E = group_by_expert(experts_NK, num_experts)
    return _Rows(order_R, order_R // experts_NK.shape[1], offsets_E.tolist())


def sum_over_experts(y_RD: Tensor, rows: _Rows, shape: torch.Size) -> Tensor:
    """Return each token's sum over its rows, in the order of its experts, in float32."""
    N, K = shape
    positions_NK = rows.positions().view(N, K)
    # On the CPU it sums narrower types in float32 too, in a fiftieth of the time.
    if N and (y_RD.dtype == torch.float32 or (y_RD.device.type == "cpu" and y_RD.dtype == torch.bfloat16)):
        return functional.embedding_bag(positions_NK, y_RD, mode="sum")
    y_NKD = y_RD.index_select(0, positions_NK.flatten()).view(N, K, y_RD.shape[1])
    return y_NKD.sum(dim=1, dtype=torch.promote_types(y_RD.dtype, torch.float32)).to(y_RD.dtype)


def _forward(
    x_ND: Tensor,
    weights_NK: Tensor,
    rows: _Rows,
    w_in_EDH: Tensor,
    w_out_EFD: Tensor,
    activation: str,
    kept_RH: Tensor | None,
) -> Tensor:
    """Compute the layer; `kept_RH`, where given, receives the first products for the backward pass."""
    weights_R = weights_NK.flatten()[rows.order_R].to(x_ND.dtype)
    y_RD = x_ND.new_empty(len(rows.order_R), x_ND.shape[1])
    w_in_of, w_out_of = w_in_EDH.unbind(0), w_out_EFD.unbind(0)
    for e, start, end in rows.blocks(_BLOCK_ROWS):
        x_nD = x_ND.index_select(0, rows.tokens_R[start:end])
        h_nH = x_nD @ w_in_of[e] if kept_RH is None else torch.mm(x_nD, w_in_of[e], out=kept_RH[start:end])
        # The weight scales the narrower side of the second product.
        a_nF = activate(h_nH, activation).mul_(weights_R[start:end, None])
        torch.mm(a_nF, w_out_of[e], out=y_RD[start:end])
    return sum_over_experts(y_RD, rows, weights_NK.shape)


def _multiply_into(out: Tensor, left: Tensor, right: Tensor, first: bool) -> None:
    """Write a product into `out`, or add it to what earlier blocks left there."""
    if first:
        torch.mm(left, right, out=out)
    else:
        out.addmm_(left, right)


class _ExpertMLP(torch.autograd.Function):
    """The layer with gradients by hand: block by block as in the forward pass, only the first product is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weights_NK: Tensor,
        experts_NK: Tensor,
        w_in_EDH: Tensor,
        w_out_EFD: Tensor,
        activation: str,
    ) -> Tensor:
        h_RH = x_ND.new_empty(experts_NK.numel(), w_in_EDH.shape[2])
        rows = sort_rows(experts_NK, len(w_in_EDH))
        y_ND = _forward(x_ND, weights_NK, rows, w_in_EDH, w_out_EFD, activation, h_RH)
        ctx.save_for_backward(x_ND, weights_NK, w_in_EDH, w_out_EFD, h_RH)
        ctx.rows, ctx.activation = rows, activation
        return y_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor, None]:
        x_ND, weights_NK, w_in_EDH, w_out_EFD, h_RH = ctx.saved_tensors
        rows: _Rows = ctx.rows
        weights_R = weights_NK.flatten()[rows.order_R].to(x_ND.dtype)
        d_x_RD = x_ND.new_empty(len(rows.order_R), x_ND.shape[1])
        d_weights_R = weights_NK.new_empty(len(rows.order_R))
        d_w_in_EDH, d_w_out_EFD = torch.empty_like(w_in_EDH), torch.empty_like(w_out_EFD)
        d_w_in_of, d_w_out_of = d_w_in_EDH.unbind(0), d_w_out_EFD.unbind(0)
        for e in rows.unused():
            d_w_in_of[e].zero_()
            d_w_out_of[e].zero_()
        w_in_of, w_out_of = w_in_EDH.unbind(0), w_out_EFD.unbind(0)
        # A sum over blocks in half precision would round after each.
        most_rows = _BLOCK_ROWS if x_ND.dtype.itemsize >= 4 else max(1, len(rows.order_R))
        for e, start, end in rows.blocks(most_rows):
            tokens_n, weights_n1 = rows.tokens_R[start:end], weights_R[start:end, None]
            x_nD, grad_nD, h_nH = x_ND.index_select(0, tokens_n), grad_ND.index_select(0, tokens_n), h_RH[start:end]
            # The gradients of the matrices are as large as all experts: the first block writes, later ones add.
            first = start == rows.start(e)
            a_nF = activate(h_nH, ctx.activation)
            d_a_nF = grad_nD @ w_out_of[e].T
            d_weights_R[start:end] = (d_a_nF * a_nF).sum(dim=-1, dtype=d_weights_R.dtype)
            _multiply_into(d_w_out_of[e], a_nF.mul_(weights_n1).T, grad_nD, first)
            d_h_nH = _activate_backward(h_nH, d_a_nF.mul_(weights_n1), ctx.activation)
            _multiply_into(d_w_in_of[e], x_nD.T, d_h_nH, first)
            torch.mm(d_h_nH, w_in_of[e].T, out=d_x_RD[start:end])
        d_x_ND = sum_over_experts(d_x_RD, rows, weights_NK.shape)
        d_weights_NK = torch.empty_like(d_weights_R).scatter_(0, rows.order_R, d_weights_R).view_as(weights_NK)
        return d_x_ND, d_weights_NK, None, d_w_in_EDH, d_w_out_EFD, None
