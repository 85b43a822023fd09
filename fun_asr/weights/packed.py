"""Linear layers with weights laid out once as oneDNN multiplies them: the CPU's fast path for bfloat16 inference.

`F.linear` lays the weights out anew at each call, copies the bias into the result before it adds the product, and
leaves the GELU or SiLU to another pass over the result. Shapes: D input width, F output width.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.conformer import SiLUFeedForward
from fun_asr.layers.feed_forward import FeedForward
from fun_asr.layers.moe import Router

__all__ = ["PackedLinear", "can_pack", "pack_linears"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "gelu": F.gelu, "swish": F.silu}


class PackedLinear(nn.Module):
    """`nn.Linear` in bfloat16 on the CPU, with a function after it on request. Inference only; check `can_pack` first.

    What oneDNN has laid out cannot be moved, copied or saved, and is no parameter.

    Arguments:
        linear: the layer it replaces.
        gelu: apply an exact GELU to the result.
        silu: apply a SiLU to the result.
    """

    def __init__(self, linear: nn.Linear, *, gelu: bool = False, silu: bool = False) -> None:
        super().__init__()
        self.out_features, self.in_features = linear.weight.shape
        self.activation = "gelu" if gelu else "swish" if silu else "none"
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., F]`, bfloat16."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, self.activation, [], "none")
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, activation={self.activation}"


@functools.cache
def can_pack() -> bool:
    """Whether this torch has the operators, which are not public, and they compute what they should."""
    with torch.inference_mode():
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            linear = nn.Linear(32, 48, dtype=torch.bfloat16)
        linear.weight.copy_(torch.linspace(-0.2, 0.2, linear.weight.numel()).sin().view_as(linear.weight))
        linear.bias.copy_(torch.linspace(-1, 1, 48))
        x = torch.linspace(-2, 2, 300 * 32, dtype=torch.bfloat16).view(300, 32)
        try:
            for rows, activation in itertools.product((x[:1], x), _ACTIVATIONS):
                y = PackedLinear(linear, gelu=activation == "gelu", silu=activation == "swish")(rows)
                if not torch.allclose(y, _ACTIVATIONS[activation](linear(rows)), rtol=0.02, atol=0.02):
                    return False
        except (RuntimeError, AttributeError):
            return False
    return True


def pack_linears(model: nn.Module) -> None:
    """Replace a model's bfloat16 linear layers on the CPU, and the functions after them, where this torch can do it."""
    for module in list(model.modules()):
        if isinstance(module, Router):  # uses its weights in float32
            continue
        if isinstance(module, FeedForward) and _is_packable(module.up):
            module.up = PackedLinear(module.up, gelu=True)  # type: ignore[assignment]
            module.activation = nn.Identity()
        if isinstance(module, SiLUFeedForward) and _is_packable(module.linear1):
            module.linear1 = PackedLinear(module.linear1, silu=True)  # type: ignore[assignment]
            module.activation = nn.Identity()
        for name, child in list(module.named_children()):
            if _is_packable(child):
                module.set_submodule(name, PackedLinear(child))


def _is_packable(module: nn.Module) -> TypeGuard[nn.Linear]:
    return (
        isinstance(module, nn.Linear)
        and module.weight.dtype is torch.bfloat16
        and module.weight.device.type == "cpu"
        and can_pack()
    )
