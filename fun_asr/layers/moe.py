"""The mixture-of-experts feed-forward: one shared expert and E routed ones (DeepSeekMoE, Dai et al. 2024).

Shapes: N tokens, D width, E experts, K experts per token, F hidden width of a routed expert, H = 2 F.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.kernels import Routing, expert_load, expert_mlp, load_balancing_loss, route, update_bias, z_loss
from fun_asr.layers.feed_forward import FeedForward


@dataclass(frozen=True)
class RouterLosses:
    """A router's auxiliary losses on one batch, scalars that carry the gradient to its gate."""

    balance: Tensor
    """Switch Transformers' load-balancing loss: 1 for an even load, E when one expert takes all."""
    z: Tensor
    """Mean squared log-sum-exp of the logits."""


class Router(nn.Module):
    """Chooses K of E experts for each token; keeps the balancing bias and, in training, the load and losses it sees."""

    balance_E: Tensor
    load_E: Tensor
    losses: RouterLosses | None
    """Of the last batch; None outside training."""

    def __init__(self, dim: int, num_experts: int, num_experts_per_token: int) -> None:
        super().__init__()
        self.num_experts_per_token = num_experts_per_token
        self.gate = nn.Linear(dim, num_experts, bias=False)
        nn.init.normal_(self.gate.weight, std=0.02)
        self.register_buffer("balance_E", torch.zeros(num_experts))
        self.register_buffer("load_E", torch.zeros(num_experts, dtype=torch.int64), persistent=False)
        self.losses = None

    def forward(self, x_ND: Tensor, counted_N: Tensor | None = None) -> Routing:
        """The experts of each token; in training only the tokens `counted_N` count as load and in the losses."""
        logits_NE = F.linear(x_ND.float(), self.gate.weight.float())
        routing = route(logits_NE, self.num_experts_per_token, bias_E=self.balance_E)
        self.losses = None
        if self.training:
            probs_NE, experts_NK = routing.probs_NE, routing.experts_NK
            if counted_N is not None:
                logits_NE, probs_NE, experts_NK = logits_NE[counted_N], probs_NE[counted_N], experts_NK[counted_N]
            self.load_E += expert_load(experts_NK, len(self.load_E))
            self.losses = RouterLosses(load_balancing_loss(probs_NE, experts_NK), z_loss(logits_NE))
        return routing

    @torch.no_grad()
    def rebalance(self, rate: float) -> None:
        """Move the bias towards an even load and forget the load (Wang et al. 2024, aux-loss-free balancing)."""
        self.balance_E.copy_(update_bias(self.balance_E, self.load_E, rate))
        self.load_E.zero_()


class RoutedExperts(nn.Module):
    """E experts, stored as `nn.Linear` stores its matrices.

    Their output projections start at zero, so they add nothing at first.

    Arguments:
        activation: "swiglu", or one of `fun_asr.kernels.ACTIVATIONS` without a gate: H = F.
    """

    def __init__(self, dim: int, num_experts: int, hidden: int, activation: str = "swiglu") -> None:
        super().__init__()
        self.activation = activation
        width = 2 * hidden if activation == "swiglu" else hidden
        self.gate_up_EHD = nn.Parameter(torch.empty(num_experts, width, dim))
        self.down_EDF = nn.Parameter(torch.zeros(num_experts, dim, hidden))
        nn.init.normal_(self.gate_up_EHD, std=dim**-0.5)

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Each token's weighted sum over its experts, `[N, D]`."""
        return expert_mlp(x_ND, routing, self.gate_up_EHD.mT, self.down_EDF.mT, activation=self.activation)


class MoEFeedForward(nn.Module):
    """Shared expert plus the routed experts' weighted sum; without routed experts, a plain feed-forward."""

    def __init__(self, dim: int, ffn_dim: int, num_experts: int, num_experts_per_token: int, expert_dim: int) -> None:
        super().__init__()
        self.shared = FeedForward(dim, ffn_dim)
        self.router: Router | None = None
        if num_experts:
            self.router = Router(dim, num_experts, num_experts_per_token)
            self.experts = RoutedExperts(dim, num_experts, expert_dim)

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Arguments: x `[..., D]`; counted, bool `[...]`: as for the router. Returns the shape of x."""
        shared = self.shared(x)
        if self.router is None:
            return shared  # type: ignore[no-any-return]
        x_ND = x.reshape(-1, x.shape[-1])
        y_ND = self.experts(x_ND, self.router(x_ND, None if counted is None else counted.flatten()))
        return shared + y_ND.view_as(x)  # type: ignore[no-any-return]
