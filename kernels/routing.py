"""Mixture-of-experts routing: choose experts, sort rows by expert, join the results, keep the load even.

Shape suffixes: N tokens, D width, E experts, K experts chosen per token; N*K rows, one per token and chosen expert.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fun_asr.kernels.grouped_matmul import require


@dataclass(frozen=True)
class Routing:
    """The router's decision for N tokens."""

    weights_NK: Tensor
    """Weight of each chosen expert, float32, best expert first."""

    experts_NK: Tensor
    """Index of each chosen expert, int64."""

    probs_NE: Tensor
    """Softmax over all experts, or each one's sigmoid, without the bias, float32."""


def route(logits_NE: Tensor, k: int, *, bias_E: Tensor | None = None, renormalize: bool = True) -> Routing:
    """Choose each token's k experts by softmax over all of them, in float32; the lowest index wins a tie.

    Args:
        logits_NE: Router logits ``[N, E]``, any floating dtype.
        k: Experts per token, 1 to E.
        bias_E: Added to the probabilities ``[E]`` only to choose; the weights stay unbiased and no gradient reaches it.
        renormalize: Divide the weights by their sum over the k chosen experts.

    Returns:
        Weights and probabilities that carry the gradient to the logits, and the experts chosen.

    Raises:
        ValueError: A shape is wrong or k is not between 1 and E.

    Source:
        Qwen3-MoE's router (Yang et al., 2025); loss-free bias (Wang et al., 2024).
    """
    if logits_NE.ndim != 2:
        raise ValueError(f"expected logits [N, E], got {list(logits_NE.shape)}")
    E = logits_NE.shape[1]
    if not 1 <= k <= E:
        raise ValueError(f"k must be between 1 and the number of experts, {E}, got {k}")
    if bias_E is not None and bias_E.shape != (E,):
        raise ValueError(f"expected bias [{E}], got {list(bias_E.shape)}")
    probs_NE = logits_NE.float().softmax(dim=-1)
    scores_NE = probs_NE.detach() if bias_E is None else probs_NE.detach() + bias_E.detach().float()
    # A stable sort, because torch.topk leaves the order of equal scores open and E is small.
    experts_NK = scores_NE.sort(dim=-1, descending=True, stable=True).indices[:, :k].contiguous()
    weights_NK = probs_NE.gather(1, experts_NK)
    if renormalize:
        # A bias can choose experts whose probabilities all underflow to 0: they get weight 0, not NaN.
        weights_NK = weights_NK / weights_NK.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return Routing(weights_NK, experts_NK, probs_NE)


def route_by_sigmoid(logits_NE: Tensor, k: int, bias_E: Tensor, *, renormalize: bool, scale: float) -> Routing:
    """Choose each token's k experts by scores that do not compete, in float32; the lowest index wins a tie.

    Args:
        logits_NE: Router logits ``[N, E]``, any floating dtype.
        k: Experts per token, 1 to E.
        bias_E: Added to the scores ``[E]`` only to choose.
        renormalize: Divide the weights by their sum over the k chosen experts.
        scale: Multiplies the weights after that.

    Returns:
        Weights and scores, and the experts chosen.

    Raises:
        ValueError: A shape is wrong or k is not between 1 and E.

    Source:
        DeepSeek-V3's router (DeepSeek-AI, 2024), in one group.
    """
    if logits_NE.ndim != 2 or bias_E.shape != logits_NE.shape[1:] or not 1 <= k <= logits_NE.shape[1]:
        raise ValueError(f"expected logits [N, E], bias [E] and 1 <= k <= E, got {list(logits_NE.shape)}, {k}")
    scores_NE = logits_NE.float().sigmoid()
    chosen_by_NE = scores_NE.detach() + bias_E.detach().float()
    experts_NK = chosen_by_NE.sort(dim=-1, descending=True, stable=True).indices[:, :k].contiguous()
    weights_NK = scores_NE.gather(1, experts_NK)
    if renormalize:
        weights_NK = weights_NK / weights_NK.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return Routing(weights_NK * scale, experts_NK, scores_NE)


def group_by_expert(experts_NK: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    """Sort the N*K rows by expert; rows of one expert keep the order of their tokens.

    Args:
        experts_NK: Chosen experts ``[N, K]``, integers from 0 to E - 1.
        num_experts: E.

    Returns:
        ``order`` ``[N*K]`` int64, where ``order // K`` is the token of each sorted row, and the end offset of each
        expert's rows ``[E]`` int32, as ``grouped_matmul`` takes them.

    Raises:
        ValueError: The shape is wrong or an expert is out of range (on CUDA a device-side assertion).
    """
    if experts_NK.ndim != 2:
        raise ValueError(f"expected experts [N, K], got {list(experts_NK.shape)}")
    sorted_experts, order = experts_NK.reshape(-1).sort(stable=True)
    require(
        ((sorted_experts >= 0) & (sorted_experts < num_experts)).all(),
        f"experts must lie between 0 and {num_experts - 1}",
    )
    # A search, not bincount: on CUDA bincount waits for the device to size its result.
    experts_E = torch.arange(num_experts, dtype=sorted_experts.dtype, device=sorted_experts.device)
    return order, torch.searchsorted(sorted_experts, experts_E, right=True, out_int32=True)


def combine(y_sorted: Tensor, order: Tensor, weights_NK: Tensor) -> Tensor:
    """Return each token's weighted sum over its experts, summed in float32 in a fixed order.

    Args:
        y_sorted: Expert outputs ``[N*K, D]`` in the order of ``group_by_expert``.
        order: Permutation ``[N*K]`` from ``group_by_expert``.
        weights_NK: Weights ``[N, K]``.

    Returns:
        Tokens ``[N, D]`` in the dtype of ``y_sorted``.

    Raises:
        ValueError: Shapes disagree.
    """
    N, K = weights_NK.shape
    if y_sorted.ndim != 2 or y_sorted.shape[0] != N * K or order.shape != (N * K,):
        shapes = f"y_sorted {list(y_sorted.shape)}, order {list(order.shape)}, weights {[N, K]}"
        raise ValueError(f"expected y_sorted [N*K, D], order [N*K] and weights [N, K], got {shapes}")
    # Undo the permutation and sum over K: adding rows to their tokens with atomics would vary from run to run.
    y_NKD = torch.zeros_like(y_sorted).index_copy_(0, order, y_sorted).view(N, K, y_sorted.shape[1])
    return (y_NKD * weights_NK.float().unsqueeze(-1)).sum(dim=1).to(y_sorted.dtype)


def expert_load(experts_NK: Tensor, num_experts: int) -> Tensor:
    """Count the rows of each expert; an expert with none is dead for this batch.

    Args:
        experts_NK: Chosen experts ``[N, K]``, integers from 0 to E - 1.
        num_experts: E.

    Returns:
        Counts ``[E]`` int64.

    Raises:
        ValueError: An expert is out of range (on CUDA a device-side assertion).
    """
    _, offsets_E = group_by_expert(experts_NK, num_experts)
    return offsets_E.long().diff(prepend=offsets_E.new_zeros(1))


def update_bias(bias_E: Tensor, load_E: Tensor, rate: float = 1e-3) -> Tensor:
    """Return the router bias moved one step towards an even load, for ``route``'s ``bias_E``.

    Args:
        bias_E: Bias ``[E]`` float32.
        load_E: Rows of each expert since the last update ``[E]``.
        rate: Step, in units of probability.

    Returns:
        New bias ``[E]``; the steps sum to zero, so that the bias does not drift.

    Source:
        Auxiliary-loss-free load balancing (Wang et al., 2024).
    """
    load_E = load_E.to(bias_E.dtype)
    delta_E = rate * torch.sign(load_E.mean() - load_E)
    return bias_E.detach() + (delta_E - delta_E.mean())


def load_balancing_loss(probs_NE: Tensor, experts_NK: Tensor) -> Tensor:
    """Return E times the sum over experts of their share of the rows times their mean probability.

    It is 1 for an even load and E when one expert takes all. Leave padding out of both arguments.

    Args:
        probs_NE: Probabilities ``[N, E]``.
        experts_NK: Chosen experts ``[N, K]``.

    Returns:
        Scalar loss, 0 without tokens; the gradient flows through the probabilities.

    Source:
        Switch Transformers (Fedus et al., 2021), equations 4 to 6, with shares of N*K rows for K above 1.
    """
    E = probs_NE.shape[1]
    share_E = expert_load(experts_NK, E).to(probs_NE.dtype) / max(experts_NK.numel(), 1)
    return E * (share_E * _mean_over_tokens(probs_NE)).sum()


def z_loss(logits_NE: Tensor) -> Tensor:
    """Return the mean over tokens of the squared log-sum-exp of the router logits, which keeps them small.

    Args:
        logits_NE: Router logits ``[N, E]``.

    Returns:
        Scalar loss in float32, 0 without tokens.

    Source:
        ST-MoE (Zoph et al., 2022), equation 5.
    """
    return _mean_over_tokens(logits_NE.float().logsumexp(dim=-1).square())


def routing_entropy(probs_NE: Tensor) -> Tensor:
    """Return the mean over tokens of the entropy of the router's probabilities.

    Args:
        probs_NE: Probabilities ``[N, E]``.

    Returns:
        Scalar in nats, from 0 (each token sure of one expert) to log E; 0 without tokens.
    """
    return _mean_over_tokens(torch.special.entr(probs_NE).sum(dim=-1))


def _mean_over_tokens(x: Tensor) -> Tensor:
    return x.sum(dim=0) / max(x.shape[0], 1)
