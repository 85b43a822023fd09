"""The mixture-of-experts feed-forward: one shared expert and E routed ones (DeepSeekMoE, Dai et al. 2024).

Shapes: N tokens, D width, E experts, K experts per token, F hidden width of a routed expert.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.kernels import Routing, expert_load, expert_mlp, route, update_bias
from fun_asr.model.config import DecoderConfig
from fun_asr.model.encoder import FeedForward


class Router(nn.Module):
    """Chooses K of E experts for each token; keeps the balancing bias and, in training, the load it sees."""

    balance_E: Tensor
    load_E: Tensor

    def __init__(self, dim: int, num_experts: int, num_experts_per_token: int) -> None:
        super().__init__()
        self.num_experts_per_token = num_experts_per_token
        self.gate = nn.Linear(dim, num_experts, bias=False)
        nn.init.normal_(self.gate.weight, std=0.02)
        self.register_buffer("balance_E", torch.zeros(num_experts))
        self.register_buffer("load_E", torch.zeros(num_experts, dtype=torch.int64), persistent=False)

    def forward(self, x_ND: Tensor) -> Routing:
        logits_NE = F.linear(x_ND.float(), self.gate.weight.float())
        routing = route(logits_NE, self.num_experts_per_token, bias_E=self.balance_E)
        if self.training:
            self.load_E += expert_load(routing.experts_NK, len(self.load_E))
        return routing

    @torch.no_grad()
    def rebalance(self, rate: float) -> None:
        """Move the bias towards an even load and forget the load (Wang et al. 2024, aux-loss-free balancing)."""
        self.balance_E.copy_(update_bias(self.balance_E, self.load_E, rate))
        self.load_E.zero_()


class RoutedExperts(nn.Module):
    """E SwiGLU experts; their output projections start at zero, so they add nothing at first."""

    def __init__(self, dim: int, num_experts: int, hidden: int) -> None:
        super().__init__()
        self.gate_up_EDF = nn.Parameter(torch.empty(num_experts, dim, 2 * hidden))
        self.down_EFD = nn.Parameter(torch.zeros(num_experts, hidden, dim))
        nn.init.normal_(self.gate_up_EDF, std=dim**-0.5)

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Each token's weighted sum over its experts, `[N, D]`."""
        return expert_mlp(x_ND, routing, self.gate_up_EDF, self.down_EFD)


class MoEFeedForward(nn.Module):
    """Shared expert plus the routed experts' weighted sum."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.shared = FeedForward(config.dim, config.ffn_dim)
        self.router: Router | None = None
        if config.num_experts:
            self.router = Router(config.dim, config.num_experts, config.num_experts_per_token)
            self.experts = RoutedExperts(config.dim, config.num_experts, config.expert_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Arguments: x `[..., D]`. Returns the same shape."""
        shared = self.shared(x)
        if self.router is None:
            return shared  # type: ignore[no-any-return]
        x_ND = x.reshape(-1, x.shape[-1])
        y_ND = self.experts(x_ND, self.router(x_ND))
        return shared + y_ND.view_as(x)  # type: ignore[no-any-return]
