"""Which device takes which of a model's parameters, where several share its language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from fun_asr.layers.distribution import device_of_layers

__all__ = ["placement"]


def placement(network: nn.Module, num_layers: int, devices: Sequence[torch.device]) -> Callable[[str], torch.device]:
    """Tells of a parameter's name where it goes: layers in their order, and all else to the first device.

    Arguments:
        network: whose "language_model.layers" are shared out.
        num_layers: of them.
        devices: at least one.
    """
    layers = [f"language_model.layers.{layer}." for layer in range(num_layers)]
    numbers = [sum(p.numel() for n, p in network.named_parameters() if n.startswith(layer)) for layer in layers]
    # All that is no layer lies with the first one.
    numbers[0] += sum(p.numel() for p in network.parameters()) - sum(numbers)
    places = dict(zip(layers, device_of_layers(numbers, devices), strict=True))

    def place(name: str) -> torch.device:
        return places.get(".".join(name.split(".")[:3]) + ".", devices[0])

    return place
