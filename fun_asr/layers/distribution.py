"""A decoder-only network over several devices, layer after layer, or over several processes, its experts side by side.

Shapes: N tokens, D width, E experts of all processes, L of this one, F hidden width, R rows that reach this process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fun_asr.kernels import Routing, grouped_matmul, local_experts, parallel_experts
from fun_asr.layers.moe import RoutedExperts

__all__ = ["ParallelExperts", "device_of_layers", "spread_experts"]


def device_of_layers(sizes: Sequence[int], devices: Sequence[torch.device]) -> list[torch.device]:
    """Say on which device each layer goes: consecutive ones together, and the fullest device as empty as can be.

    Arguments:
        sizes: bytes of each layer.
        devices: in the order in which the layers reach them; some may stay empty where there are few layers.
    """
    low, high = max(sizes, default=0), sum(sizes)
    while low < high:
        room = (low + high) // 2
        if max(_filled(sizes, room), default=0) < len(devices):
            high = room
        else:
            low = room + 1
    return [devices[index] for index in _filled(sizes, low)]


def _filled(sizes: Sequence[int], room: int) -> list[int]:
    """The place of each layer when every place takes as many as fit."""
    places, place, used = [], 0, 0
    for size in sizes:
        if used + size > room and used:
            place, used = place + 1, 0
        used += size
        places.append(place)
    return places


class ParallelExperts(nn.Module):
    """`RoutedExperts` of which each process of a group holds an equal share, for inference.

    All processes compute the same tokens outside the experts. Here each sends its share of them to the processes that
    hold their experts, and all gather the results. All must call this equally often, with the same tokens.

    Arguments:
        experts: all of them; only this process' share is kept.
        group: process group; the default one if None. Without any, this process holds them all.

    Raises:
        ValueError: when the experts cannot be split evenly over the processes.
    """

    def __init__(self, experts: RoutedExperts, group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        self._group = group
        num_experts = len(experts.gate_up_EHD)
        held = local_experts(num_experts, group=group)
        size = held.stop - held.start
        self._ranks, self._rank = num_experts // size, held.start // size
        # Copies, so that the others' can be freed.
        self.gate_up_LHD = nn.Parameter(experts.gate_up_EHD.detach()[held].clone(), requires_grad=False)
        self.down_LDF = nn.Parameter(experts.down_EDF.detach()[held].clone(), requires_grad=False)

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Each token's weighted sum over its experts, `[N, D]`."""
        share = -(-len(x_ND) // self._ranks)
        own = slice(self._rank * share, (self._rank + 1) * share)
        own_routing = Routing(routing.weights_NK[own], routing.experts_NK[own], routing.probs_NE[own])
        y_nD = parallel_experts(x_ND[own], own_routing, self._local, group=self._group)
        if self._ranks == 1:
            return y_nD
        # The last processes may have fewer tokens or none: all send equally many rows.
        sent = y_nD.new_zeros(share, x_ND.shape[1])
        sent[: len(y_nD)] = y_nD
        gathered = [torch.empty_like(sent) for _ in range(self._ranks)]
        dist.all_gather(gathered, sent, group=self._group)
        return torch.cat(gathered)[: len(x_ND)]

    def _local(self, rows_RD: Tensor, offsets_L: Tensor) -> Tensor:
        gate_RF, up_RF = grouped_matmul(rows_RD, self.gate_up_LHD.mT, offsets_L).chunk(2, dim=-1)
        return grouped_matmul(nn.functional.silu(gate_RF) * up_RF, self.down_LDF.mT, offsets_L)


def spread_experts(model: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Leave a process only its share of each layer's routed experts, as `ParallelExperts` says.

    Arguments:
        model: for inference, the same in all processes.
        group: as there.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, RoutedExperts):
            model.set_submodule(name, ParallelExperts(module, group))
