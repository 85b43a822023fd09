"""Layers of a network replaced by ones whose matrices are laid out for the processor: as they are, int8 or int4.

A layer takes and returns the dtype of its input. Inference only: what is laid out cannot be moved, copied or saved,
and is no parameter. Shapes: N rows, D input width, F output width, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn

from fun_asr.kernels import Routing, chosen_experts
from fun_asr.kernels.products import (
    DenseProduct,
    Int4Product,
    Int8Product,
    PackedProduct,
    Product,
    can_int4,
    can_pack,
    int8_steps,
)
from fun_asr.layers.moe import RoutedExperts, Router
from fun_asr.weights.int4 import dequantize_int4, quantize_int4
from fun_asr.weights.int8 import quantize

__all__ = [
    "Layout",
    "ProductExperts",
    "ProductLinear",
    "product_of",
    "replace_matrices",
    "replace_stored",
    "stored_product",
]


class Layout(StrEnum):
    """How a matrix is held."""

    PACKED = "packed"
    """In its own dtype."""
    INT8 = "int8"
    INT4 = "int4"


class ProductLinear(nn.Module):
    """`nn.Linear` over a laid-out matrix.

    Arguments:
        product: the matrix.
        bias: `[F]`, or None.
    """

    def __init__(self, product: Product, bias: Tensor | None = None) -> None:
        super().__init__()
        self.product = product
        self.in_features, self.out_features = product.in_features, product.out_features
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., F]`, in the dtype of x."""
        y = self.product.multiply(self.product.prepare(x.reshape(-1, self.in_features))).to(x.dtype)
        if self.bias is not None:
            y = y + self.bias
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{type(self.product).__name__}, in_features={self.in_features}, out_features={self.out_features}"


class ProductExperts(nn.Module):
    """`RoutedExperts` over laid-out matrices: a token touches only those of its own experts.

    Arguments:
        first: gate and up projection of each expert, `[2 * F, D]`, or `[F, D]` without a gate.
        second: down projection of each, `[D, F]`.
        activation: as in `RoutedExperts`.
    """

    def __init__(self, first: Sequence[Product], second: Sequence[Product], activation: str = "swiglu") -> None:
        super().__init__()
        self.first, self.second, self.activation = first, second, activation

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Each token's weighted sum over its experts, `[N, D]`, in the dtype of x."""
        return chosen_experts(x_ND, routing, self.first, self.second, activation=self.activation)

    def extra_repr(self) -> str:
        return f"{len(self.first)} experts, {type(self.first[0]).__name__}"


def product_of(weight: Tensor, layout: Layout) -> Product:
    """Lay out a matrix `[F, D]`; on an accelerator, or where this torch cannot, it stays as it is.

    Its values are those of the layout in any case.
    """
    if layout is Layout.PACKED:
        fits = weight.device.type == "cpu" and can_pack(weight.dtype)
        return PackedProduct(weight) if fits else DenseProduct(weight.detach())
    integers, scale = quantize_int4(weight) if layout is Layout.INT4 else quantize("", weight.detach().float())
    return stored_product(integers, scale, weight.shape[1])


def stored_product(integers: Tensor, scale: Tensor, in_features: int) -> Product:
    """Lay out a matrix that was stored as integers and scales.

    Arguments:
        integers: int8 `[F, D]` with scales `[F, 1]`, or uint8 as `quantize_int4` packs them.
        scale: on the same device.
        in_features: D.
    """
    on_cpu = integers.device.type == "cpu"
    if integers.dtype == torch.uint8:
        if on_cpu and can_int4():
            return Int4Product(integers, scale, in_features)
        weight = dequantize_int4(integers, scale, in_features)
    elif on_cpu and int8_steps() is not None:
        return Int8Product(integers, scale)
    else:
        weight = integers.float() * scale
    return DenseProduct(weight if on_cpu else weight.bfloat16())


def replace_matrices(model: nn.Module, layout: Layout, *, keep: Sequence[str] = ()) -> None:
    """Replace linear layers and routed experts, one at a time, by ones over laid-out matrices.

    Arguments:
        model: its routers stay as they are.
        layout: of the matrices.
        keep: parts of the names of layers that stay as they are.
    """
    routers = tuple(name for name, module in model.named_modules() if isinstance(module, Router))
    for name, module in list(model.named_modules()):
        if name.startswith(routers) or any(part in name for part in keep):
            continue
        if isinstance(module, nn.Linear):
            model.set_submodule(name, ProductLinear(product_of(module.weight, layout), module.bias))
        elif isinstance(module, RoutedExperts):
            first = [product_of(weight, layout) for weight in module.gate_up_EHD.detach()]
            second = [product_of(weight, layout) for weight in module.down_EDF.detach()]
            model.set_submodule(name, ProductExperts(first, second, module.activation))


def replace_stored(model: nn.Module, stored: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Replace the layers that hold some matrices by ones over the integers that a model directory stores.

    Arguments:
        model: has these parameters, with shapes at least.
        stored: integers and scales by the parameter's name, as `stored_product` takes them, experts `[E, ...]`.

    Raises:
        TypeError: when another layer than a linear one or routed experts holds a matrix.
    """
    for name in stored:
        path, _, parameter = name.rpartition(".")
        module = model.get_submodule(path)
        if isinstance(module, nn.Linear):
            product = stored_product(*stored[name], module.in_features)
            model.set_submodule(path, ProductLinear(product, module.bias))
        elif isinstance(module, RoutedExperts) and parameter == "gate_up_EHD":
            down = stored[f"{path}.down_EDF"]
            width, hidden = module.down_EDF.shape[1:]
            first = [stored_product(*matrix, width) for matrix in zip(*stored[name], strict=True)]
            second = [stored_product(*matrix, hidden) for matrix in zip(*down, strict=True)]
            model.set_submodule(path, ProductExperts(first, second, module.activation))
        elif not isinstance(module, (RoutedExperts, ProductExperts)):
            raise TypeError(f"{name}: no integer form of {type(module).__name__}")
