"""Published weights into a network, a tensor at a time, in the arithmetic that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.memory import return_free_memory
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
    compute_type: ComputeType,
) -> None:
    """Fill a network that has only shapes.

    Arguments:
        network: as it computes, made inside `only_shapes`.
        source: the tensors, checked by `check_shapes`.
        recipes: of each parameter and stored buffer of `network`.
        device: where the network computes.
        compute_type: of its matrix products.

    Raises:
        CheckpointError: when a tensor is damaged.
        ConfigError: for a compute type that the device does not have.
    """
    int8 = compute_type is ComputeType.INT8
    if int8 and device.type != "cpu":
        raise ConfigError(f"compute type int8 runs on the CPU only; use bfloat16 or float16 on {device}")
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    state: dict[str, Tensor] = {}
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    for name, recipe in recipes.items():
        tensor = recipe.make([source.read(part).float() for part in recipe.names]).reshape(shapes[name])
        owner = network.get_submodule(name.rpartition(".")[0])
        if int8 and isinstance(owner, nn.Linear) and name.endswith(".weight"):
            matrices[name] = quantize(name, tensor)
            state[name] = torch.empty(shapes[name], device="meta")
        else:
            state[name] = tensor.to(device, compute_type.dtype, copy=True)
    assign(network, state, str(source.where))
    # What a layer is replaced by takes the memory of the one before.
    state.clear()
    for name in list(matrices):
        replace_by_int8(network, {name: matrices.pop(name)}, torch.float32)
    pack_linears(network)
    network.eval().requires_grad_(False)
    return_free_memory()
