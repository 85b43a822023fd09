"""The routed experts of a MoE layer over matrices that were laid out one by one: only the chosen ones are read.

Shape suffixes: N tokens, D width, E experts, K experts chosen per token, F hidden width of an expert, R = N * K rows,
one per token and chosen expert; n rows of one expert, c rows of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fun_asr.kernels.experts import ACTIVATIONS, activate, sort_rows, sum_over_experts
from fun_asr.kernels.products import Product
from fun_asr.kernels.routing import Routing

# Rows that share one gather, activation and preparation: enough to spread their cost over many small experts, few
# enough to stay in cache.
_CHUNK_ROWS = 512

_Run = tuple[int, int, int]
"""Expert, first row, end row."""


def chosen_experts(
    x_ND: Tensor,
    routing: Routing,
    first: Sequence[Product],
    second: Sequence[Product],
    *,
    activation: str = "swiglu",
) -> Tensor:
    """Return each token's weighted sum over its experts' feed-forward networks, as ``expert_mlp`` does. No gradient.

    Args:
        x_ND: Tokens ``[N, D]``.
        routing: Experts and weights of each token, from ``route``.
        first: First matrix ``[H, D]`` of each of the E experts, all of one kind: with "swiglu" gate and up projection
            one below the other, H = 2 F.
        second: Second matrix ``[D, F]`` of each, all of one kind.
        activation: "swiglu" (``silu(gate) * up``), "gelu", or "relu2" (``relu(x)`` squared).

    Returns:
        Tokens ``[N, D]`` in the dtype of ``x_ND``.

    Raises:
        ValueError: Shapes disagree or a name is unknown.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    N = len(routing.experts_NK)
    if x_ND.ndim != 2 or len(x_ND) != N or x_ND.shape[1] != first[0].in_features or len(first) != len(second):
        expected = f"x [{N}, {first[0].in_features}] and as many second matrices as first ones"
        raise ValueError(f"expected {expected}, got {list(x_ND.shape)}, {len(first)} and {len(second)}")
    if not N:
        return torch.zeros_like(x_ND)
    rows = sort_rows(routing.experts_NK, len(first))
    weights_R1 = routing.weights_NK.flatten()[rows.order_R].unsqueeze(1)
    prepared = first[0].prepare(x_ND)
    y_of = []
    for runs in _chunks(rows.blocks(_CHUNK_ROWS)):
        start, end = runs[0][1], runs[-1][2]
        taken = tuple(part.index_select(0, rows.tokens_R[start:end]) for part in prepared)
        a_cF = activate(_multiply(first, runs, taken), activation)
        # The weight scales the narrower side of the second product.
        a_cF.mul_(weights_R1[start:end].to(a_cF.dtype))
        y_of.append(_multiply(second, runs, second[0].prepare(a_cF)))
    y_RD = y_of[0] if len(y_of) == 1 else torch.cat(y_of)
    return sum_over_experts(y_RD, rows, routing.experts_NK.shape).to(x_ND.dtype)


def _chunks(runs: Iterator[_Run]) -> Iterator[list[_Run]]:
    """Join runs of rows as long as they stay within a chunk."""
    chunk: list[_Run] = []
    for run in runs:
        if chunk and run[2] - chunk[0][1] > _CHUNK_ROWS:
            yield chunk
            chunk = []
        chunk.append(run)
    yield chunk


def _multiply(products: Sequence[Product], runs: list[_Run], prepared: tuple[Tensor, ...]) -> Tensor:
    """Multiply each run of prepared rows with its expert's matrix."""
    lengths = [end - start for _, start, end in runs]
    parts = zip(*(part.split(lengths) for part in prepared), strict=True)
    y_of = [products[e].multiply(part) for (e, _, _), part in zip(runs, parts, strict=True)]
    return y_of[0] if len(y_of) == 1 else torch.cat(y_of)
