"""Published weights into a network, a tensor at a time, in the arithmetic that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.layers.decoder import TokenEmbedding
from fun_asr.weights.int8 import quantize
from fun_asr.weights.load import assign, replace_by_int8
from fun_asr.weights.packed import pack_linears
from fun_asr.weights.precision import ComputeType, bfloat16_is_fast, resolve_compute_type
from fun_asr.weights.sources import WeightSource

__all__ = ["Recipe", "assemble", "check_shapes", "concatenated", "frame_compute_type"]

Shapes = Mapping[str, tuple[int, ...]]


def frame_compute_type(name: str, device: torch.device) -> ComputeType:
    """The arithmetic of a name for networks that work on all frames at once.

    There "auto" is bfloat16 where the device multiplies it: with many rows int8 products take about as long, and their
    inputs are rounded too.

    Raises:
        ConfigError: when the name is unknown, or the device does not have it.
    """
    if name == "auto" and bfloat16_is_fast(device):
        return ComputeType.BFLOAT16
    return resolve_compute_type(name, device)


def concatenated(parts: list[Tensor]) -> Tensor:
    """Rows of the first, rows of the second, ..."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@dataclass(frozen=True)
class Recipe:
    """How a parameter comes of published tensors."""

    names: tuple[str, ...]
    make: Callable[[list[Tensor]], Tensor] = concatenated


def check_shapes(source: WeightSource, expected: Shapes, optional: Iterable[str] = ()) -> None:
    """Compare what a file says of its tensors with what the configuration asks for, before anything is read.

    Arguments:
        source: the file's tensors.
        expected: by name, of all that are needed.
        optional: names that may be there and are not used.

    Raises:
        CheckpointError: when a tensor is missing, unknown or of the wrong shape.
    """
    for name, shape in expected.items():
        if name not in source.shapes:
            raise CheckpointError(f"{source.where}: has no tensor {name}, which the configuration asks for")
        if tuple(source.shapes[name]) != tuple(shape):
            raise CheckpointError(
                f"{source.where}: {name} has the shape {list(source.shapes[name])}, "
                f"the configuration asks for {list(shape)}"
            )
    unknown = next(iter(sorted(set(source.shapes) - set(expected) - set(optional))), None)
    if unknown is not None:
        raise CheckpointError(f"{source.where}: the tensor {unknown} has no place in the configured network")


def assemble(
    network: nn.Module,
    source: WeightSource,
    recipes: Mapping[str, Recipe],
    device: torch.device,
    compute_type: ComputeType | Callable[[str], ComputeType],
) -> None:
    """Fill a network that has only shapes.

    Tensors are read one at a time straight to their places, so that at most one of them is held twice.

    Arguments:
        network: as it computes, made inside `only_shapes`.
        source: the tensors, checked by `check_shapes`.
        recipes: of each parameter and stored buffer of `network`.
        device: where the network computes.
        compute_type: of its matrix products, or what tells it of the name of each parameter.

    Raises:
        CheckpointError: when a tensor is damaged.
        ConfigError: for a compute type that the device does not have.
    """
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    state: dict[str, Tensor] = {}
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    for name, recipe in recipes.items():
        kind = compute_type if isinstance(compute_type, ComputeType) else compute_type(name)
        if kind is ComputeType.INT8 and device.type != "cpu":
            raise ConfigError(f"compute type int8 runs on the CPU only; use bfloat16 or float16 on {device}")
        owner = network.get_submodule(name.rpartition(".")[0])
        parts: Iterable[Tensor] = (source.read(part) for part in recipe.names)
        if recipe.make is not concatenated:
            parts = [recipe.make([part.float() for part in parts])]
        if kind is ComputeType.INT8 and isinstance(owner, nn.Linear | TokenEmbedding) and name.endswith(".weight"):
            matrices[name] = _joined_integers(parts)
            state[name] = torch.empty(shapes[name], device="meta")
        else:
            state[name] = _joined(parts, shapes[name], kind.dtype, device)
    assign(network, state, str(source.where))
    replace_by_int8(network, matrices, torch.float32)
    pack_linears(network)
    network.eval().requires_grad_(False)


def _joined(parts: Iterable[Tensor], shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Rows of the first, rows of the second, ... in one tensor."""
    joined = torch.empty(shape, dtype=dtype, device=device)
    flat = joined.view(-1)
    start = 0
    for part in parts:
        end = start + part.numel()
        flat[start:end].copy_(part.reshape(-1))
        start = end
    return joined


def _joined_integers(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """int8 rows of the first, of the second, ..., and their scales."""
    integers, scales = zip(*(quantize("", part.float()) for part in parts), strict=True)
    return concatenated(list(integers)), concatenated(list(scales))
