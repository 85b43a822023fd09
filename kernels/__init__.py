"""Compute kernels of the mixture-of-experts layers, in plain PyTorch."""

from fun_asr.kernels.chosen_experts import chosen_experts
from fun_asr.kernels.expert_parallel import local_experts, parallel_experts
from fun_asr.kernels.experts import ACTIVATIONS, METHODS, choose_method, expert_mlp
from fun_asr.kernels.grouped_matmul import BACKENDS, choose_backend, grouped_matmul, grouped_mm_supports
from fun_asr.kernels.routing import (
    Routing,
    combine,
    expert_load,
    group_by_expert,
    load_balancing_loss,
    route,
    route_by_sigmoid,
    routing_entropy,
    update_bias,
    z_loss,
)

__all__ = [
    "ACTIVATIONS",
    "BACKENDS",
    "METHODS",
    "Routing",
    "choose_backend",
    "choose_method",
    "chosen_experts",
    "combine",
    "expert_load",
    "expert_mlp",
    "group_by_expert",
    "grouped_matmul",
    "grouped_mm_supports",
    "load_balancing_loss",
    "local_experts",
    "parallel_experts",
    "route",
    "route_by_sigmoid",
    "routing_entropy",
    "update_bias",
    "z_loss",
]
