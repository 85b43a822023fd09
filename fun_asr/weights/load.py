"""Networks from stored tensors: built without initialising them, and computing with int8 matrices where that pays."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fun_asr.errors import CheckpointError
from fun_asr.kernels.products import DenseProduct, Int4Product, Int8Product, PackedProduct, Product
from fun_asr.layers.decoder import TokenEmbedding
from fun_asr.layers.moe import RoutedExperts
from fun_asr.transcript import ModelInfo
from fun_asr.weights.int8 import Int8Embedding, Int8Experts, Int8Linear, compact_embedding
from fun_asr.weights.packed import PackedLinear
from fun_asr.weights.weight_only import ProductExperts, ProductLinear

__all__ = ["assign", "describe_network", "only_shapes", "replace_by_int8", "works_on_frames"]


class _SkipInitialisation(TorchFunctionMode):
    """Makes `torch.nn.init` do nothing: without memory to fill, its random draws only import seconds of torch."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


@contextmanager
def only_shapes() -> Iterator[None]:
    """Modules made here have parameters with shapes but neither memory nor values."""
    with torch.device("meta"), _SkipInitialisation():
        yield


def assign(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put tensors themselves, not copies of them, in the place of a model's parameters and buffers.

    Raises:
        CheckpointError: when a tensor is missing, unknown or of the wrong shape.
    """
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise CheckpointError(f"{where}: the weights do not fit the configuration ({reason})") from None


def replace_by_int8(
    model: nn.Module, matrices: Mapping[str, tuple[Tensor, Tensor]], narrow: torch.dtype, *, compact: bool = False
) -> None:
    """Replace the layers that hold some matrices by ones that multiply int8.

    Arguments:
        model: has these parameters, with shapes at least.
        matrices: integers and scales, by the parameter's name.
        narrow: of the products that stay in floating point.
        compact: hold embeddings once, at the cost of speed, where `compact_embedding` can.
    """
    for name, (integers, scale) in matrices.items():
        path = name.rpartition(".")[0]
        module = model.get_submodule(path)
        replacement: nn.Module
        if isinstance(module, RoutedExperts):
            replacement = Int8Experts(integers, scale, module.down_EDF.to(narrow))
        elif isinstance(module, TokenEmbedding):
            replacement = (compact_embedding if compact else Int8Embedding)(integers, scale)
        elif isinstance(module, nn.Linear):
            replacement = Int8Linear(integers, scale, module.bias, few_rows=not works_on_frames(name))
        else:
            raise TypeError(f"{name}: no int8 form of {type(module).__name__}")
        model.set_submodule(path, replacement)


def works_on_frames(name: str) -> bool:
    """Whether the layer of a parameter meets all frames of its input at once, not what a step of decoding writes."""
    return name.startswith(("encoder.", "ctc.")) or ".cross_attention.kv." in name


def describe_network(network: nn.Module, family: str) -> ModelInfo:
    """What a loaded network computes with: the arithmetic that its layers ended up with, not the one asked for.

    Arguments:
        network: loaded for inference.
        family: its name.
    """
    found: dict[str, set[str]] = {}
    kernels: dict[str, set[str]] = {}
    for name, module in network.named_modules():
        part = name.partition(".")[0]
        if isinstance(module, Int8Linear):
            engine = module.engine
            found.setdefault(part, set()).add("float32" if engine is None else "int8")
            kernel = "not here: float32" if engine is None else f"{engine.name}, inputs to {engine.steps}"
            kernels.setdefault("int8", set()).add(kernel)
        elif isinstance(module, PackedLinear):
            found.setdefault(part, set()).add("bfloat16")
            kernels.setdefault("bfloat16", set()).add("oneDNN, packed")
        elif isinstance(module, ProductLinear | ProductExperts):
            product = module.product if isinstance(module, ProductLinear) else module.first[0]
            kind, kernel = _multiplied(product)
            found.setdefault(part, set()).add(kind)
            kernels.setdefault(kind, set()).add(kernel)
        elif isinstance(module, nn.Linear) and ".router." not in name:
            dtype = str(module.weight.dtype).removeprefix("torch.")
            found.setdefault(part, set()).add(dtype)
            if dtype == "bfloat16" and module.weight.device.type == "cpu":
                kernels.setdefault("bfloat16", set()).add("torch, not packed")
    return ModelInfo(
        family=family,
        device=str(next(network.parameters()).device),
        arithmetic={part: ", ".join(sorted(kinds)) for part, kinds in found.items()},
        kernels={kind: "; ".join(sorted(names)) for kind, names in kernels.items()},
    )


def _multiplied(product: Product) -> tuple[str, str]:
    """In which arithmetic a matrix is multiplied, and by what."""
    if isinstance(product, Int4Product):
        return "int4", "torch, rows in bfloat16"
    if isinstance(product, Int8Product):
        return "int8", f"{product.engine.name}, inputs to two digits of {product.engine.steps}"
    kind = str(product.dtype if isinstance(product, PackedProduct) else _dense_dtype(product)).removeprefix("torch.")
    return kind, "oneDNN, packed" if isinstance(product, PackedProduct) else "torch, not packed"


def _dense_dtype(product: Product) -> torch.dtype:
    assert isinstance(product, DenseProduct)
    return product.weight_FD.dtype
