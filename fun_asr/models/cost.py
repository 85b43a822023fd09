"""What a published model costs, counted from its shapes alone: parameters, arithmetic, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fun_asr.layers.causal_lm import ExpertsFeedForward
from fun_asr.layers.decoder import TokenEmbedding
from fun_asr.layers.hybrid_lm import SharedAndRouted
from fun_asr.layers.moe import RoutedExperts

__all__ = ["Cost", "count_cost"]

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Cost:
    """The cost of a model of any family."""

    family: str
    parameters: dict[str, int]
    """By part of the network, and "model", their sum."""
    active_parameters: dict[str, int]
    """Of them those that one row of a part's input, a frame or a token, meets: of experts the chosen ones."""
    segment_seconds: float
    tokens_per_second: float
    """That a decoder reads; of no meaning to a CTC head."""
    flops_per_second: dict[str, float]
    """Of matrix products, convolutions and attention, two a multiply-add, for a second of audio in a segment of
    `segment_seconds`; by part, and "model", their sum."""
    weight_bytes: dict[str, int]
    """Of the weights in memory, by compute type; in int8 matrices take a byte a value and four an output channel, all
    else is float32."""


@torch.inference_mode()
def count_cost(
    network: nn.Module,
    family: str,
    runs: Mapping[str, Callable[[], object]],
    *,
    segment_seconds: float,
    tokens_per_second: float,
    part_of: Callable[[str], str] = lambda name: name.partition(".")[0],
) -> Cost:
    """Count a network's cost.

    Arguments:
        network: on the meta device.
        family: its name.
        runs: of each part that computes, what it does for one segment.
        segment_seconds: how long that is.
        tokens_per_second: of the texts in `runs`.
        part_of: the part that a parameter belongs to, by its name.
    """
    from torch.utils.flop_counter import FlopCounterMode  # takes a tenth of a second, and only this needs it

    parameters: dict[str, int] = {}
    active: dict[str, int] = {}
    share = _shares_met(network)
    for name, parameter in network.named_parameters():
        part, count = part_of(name), parameter.numel()
        parameters[part] = parameters.get(part, 0) + count
        chosen, experts = share.get(name.rpartition(".")[0], (1, 1))
        active[part] = active.get(part, 0) + count // experts * chosen
    flops = {}
    for part, run in runs.items():
        with FlopCounterMode(display=False) as counter:
            run()
        flops[part] = counter.get_total_flops() / segment_seconds
    total = sum(parameters.values())
    return Cost(
        family=family,
        parameters={**parameters, "model": total},
        active_parameters={**active, "model": sum(active.values())},
        segment_seconds=segment_seconds,
        tokens_per_second=tokens_per_second,
        flops_per_second={**flops, "model": sum(flops.values())},
        weight_bytes={**{kind: width * total for kind, width in BYTES.items()}, "int8": _int8_bytes(network)},
    )


def _shares_met(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Of each layer's routed experts how many a token meets, and of how many, by the experts' name."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, ExpertsFeedForward):
            found[f"{name}.experts"] = module.num_experts_per_token, len(module.router)
        elif isinstance(module, SharedAndRouted):
            found[f"{name}.experts"] = module.config.num_experts_per_token, module.config.num_experts
    return found


def _int8_bytes(network: nn.Module) -> int:
    def size(module: nn.Module, parameter: Tensor) -> int:
        if parameter.dim() == 2 and isinstance(module, nn.Linear | TokenEmbedding):
            return parameter.numel() + 4 * len(parameter)
        if isinstance(module, RoutedExperts):
            return parameter.numel() + 4 * parameter[..., 0].numel()
        return 4 * parameter.numel()

    return sum(
        size(module, parameter) for module in network.modules() for parameter in module.parameters(recurse=False)
    )
