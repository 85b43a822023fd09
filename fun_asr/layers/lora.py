"""Low-rank adaptation (Hu et al. 2021): what is added to a frozen matrix is the product of two thin ones.

Shapes: I inputs, O outputs, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LoRALinear", "adapted", "add_lora", "merged_state"]


class LoRALinear(nn.Linear):
    """A linear layer whose matrix is frozen, and the two thin matrices that change what it computes.

    Its parameters keep the names that they have in `nn.Linear`; `lora_A` and `lora_B` come beside them.

    Arguments:
        linear: the layer it replaces.
        rank: R.
        alpha: the product of the thin matrices counts alpha / R times.
        rows: which outputs are adapted, bool `[O]`; None for all.
        generator: draws `lora_A`; `lora_B` starts at zero, so that nothing changes at first.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, alpha: float, rows: Tensor | None, generator: torch.Generator
    ) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        bound = math.sqrt(3 / linear.in_features)
        drawn = torch.empty(rank, linear.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(drawn.to(linear.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank, device=linear.weight.device))
        self.rows: Tensor | None
        self.register_buffer("rows", None if rows is None else rows.to(self.lora_B), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        added = F.linear(F.linear(input, self.lora_A), self.added_rows())
        return F.linear(input, self.weight, self.bias) + self.scale * added

    def added_rows(self) -> Tensor:
        """`lora_B`, zero where nothing is adapted."""
        return self.lora_B if self.rows is None else self.lora_B * self.rows[:, None]

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The matrix of a plain layer that computes the same."""
        return self.weight + self.scale * self.added_rows() @ self.lora_A


def add_lora(
    network: nn.Module, rank: int, alpha: float, rows_of: Callable[[str, nn.Linear], Tensor | bool], seed: int
) -> int:
    """Freeze a network and give its linear layers thin matrices to train.

    Arguments:
        network: is changed.
        rank, alpha: as of `LoRALinear`.
        rows_of: whether a layer, by its name, is adapted, or which of its outputs are, bool `[O]`.
        seed: of the thin matrices' first values.

    Returns:
        how many layers are adapted.
    """
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    layers = [(name, module) for name, module in network.named_modules() if type(module) is nn.Linear]
    count = 0
    for name, layer in layers:
        rows = rows_of(name, layer)
        if rows is False or (isinstance(rows, Tensor) and not bool(rows.any())):
            continue
        chosen = None if rows is True or bool(torch.as_tensor(rows).all()) else torch.as_tensor(rows)
        network.set_submodule(name, LoRALinear(layer, rank, alpha, chosen, generator))
        count += 1
    return count


def adapted(network: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """The adapted layers of a network with their names."""
    for name, module in network.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of the plain network that computes the same."""
    layers = dict(adapted(network))
    state = {}
    for name, tensor in network.state_dict().items():
        owner, _, part = name.rpartition(".")
        if part not in ("lora_A", "lora_B"):
            state[name] = layers[owner].merged() if owner in layers and part == "weight" else tensor
    return state
