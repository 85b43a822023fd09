"""Published weights into a network, a tensor at a time, in the arithmetic that is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.kernels.products import Product
from fun_asr.layers.decoder import TokenEmbedding
from fun_asr.layers.moe import RoutedExperts
from fun_asr.memory import return_free_memory
from fun_asr.weights.load import replace_by_int8
from fun_asr.weights.matrices import Matrix, expert_products, joined, read_matrix, rounded
from fun_asr.weights.packed import pack_linears
from fun_asr.weights.precision import ComputeType, bfloat16_is_fast, resolve_compute_type
from fun_asr.weights.sources import WeightSource
from fun_asr.weights.weight_only import Layout, ProductExperts, replace_stored

__all__ = [
    "Recipe",
    "assemble",
    "cache_dtype",
    "check_shapes",
    "concatenated",
    "frame_compute_type",
    "language_model_compute_type",
]

LARGE = 2**22  # values of a layer after whose reading freed memory is given back at once

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


def language_model_compute_type(name: str, device: torch.device, source: WeightSource) -> ComputeType:
    """The arithmetic of a name for models with a language model.

    There "auto" is int4 on the CPU where the weights are stored so: whoever wrote them again wanted them small.

    Raises:
        ConfigError: when the name is unknown, or the device does not have it.
    """
    stored = name == "auto" and source.has_int4 and device.type == "cpu"
    return ComputeType.INT4 if stored else resolve_compute_type(name, device, int4=True)


def cache_dtype(compute_type: ComputeType, device: torch.device) -> torch.dtype | None:
    """In what a language model's search keeps keys and values: half of float32's size for int4, where it is as fast.

    None keeps them as they are computed.
    """
    return torch.bfloat16 if compute_type is ComputeType.INT4 and bfloat16_is_fast(device) else None


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
    device: torch.device | Callable[[str], torch.device],
    compute_type: ComputeType | Callable[[str], ComputeType],
) -> None:
    """Fill a network that has only shapes.

    Tensors are read one at a time straight to their places, layer by layer: at most one layer is held twice. Experts in
    int8, int4 or bfloat16 on the CPU become products one by one, and a token then reads only those of its own.

    Arguments:
        network: as it computes, made inside `only_shapes`.
        source: the tensors, checked by `check_shapes`.
        recipes: of each parameter and stored buffer of `network`.
        device: where the network computes, or what tells it of the name of each parameter.
        compute_type: of its matrix products, or what tells it of the name of each parameter.

    Raises:
        CheckpointError: when a tensor is damaged.
        ConfigError: for a compute type that the device does not have.
    """
    layers: dict[str, list[str]] = {}
    for name in recipes:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    sizes = {
        path: sum(math.prod(source.shapes[part]) for name in names for part in recipes[name].names)
        for path, names in layers.items()
    }
    experts = {path for path in layers if isinstance(network.get_submodule(path), RoutedExperts)}
    # What is held twice meanwhile is held while there is least beside it: the largest first, experts, one by one, last.
    for path in sorted(layers, key=lambda path: (path in experts, -sizes[path])):
        names, layer = layers[path], network.get_submodule(path)
        shapes = {name: tensor.shape for name, tensor in layer.state_dict(prefix=f"{path}." if path else "").items()}
        state: dict[str, Tensor] = {}
        matrices: dict[str, Matrix] = {}
        products: list[list[Product]] = []
        compact = False
        for name in names:
            kind = compute_type if isinstance(compute_type, ComputeType) else compute_type(name)
            place = device if isinstance(device, torch.device) else device(name)
            if kind is ComputeType.INT8 and place.type != "cpu":
                raise ConfigError(f"compute type int8 runs on the CPU only; use bfloat16 or float16 on {place}")
            compact |= kind is ComputeType.INT4
            if isinstance(layer, RoutedExperts) and (layout := _layout_of_experts(kind, place)) is not None:
                products.append(list(expert_products(source, recipes[name].names, len(layer.down_EDF), layout)))
            elif (layout := _layout_of(layer, name, kind)) is not None:
                matrices[name] = _joined_integers(source, recipes[name], shapes[name], layout)
            else:
                parts = _parts(source, recipes[name])
                state[name.rpartition(".")[2]] = _joined(parts, shapes[name], kind.dtype, place)
        layer.load_state_dict(state, strict=False, assign=True)
        if products:
            assert isinstance(layer, RoutedExperts)
            first, second = products
            network.set_submodule(path, ProductExperts(first, second, layer.activation))
        is_int8 = {name: pair[0].dtype is torch.int8 for name, pair in matrices.items()}
        int8 = {name: pair for name, pair in matrices.items() if is_int8[name]}
        replace_by_int8(network, int8, torch.float32, compact=compact)
        replace_stored(network, {name: pair for name, pair in matrices.items() if not is_int8[name]})
        if sizes[path] >= LARGE:
            del layer, state, matrices, int8, products
            return_free_memory()
    missing = next((name for name, tensor in network.state_dict().items() if tensor.is_meta), None)
    if missing is not None:
        raise CheckpointError(f"{source.where}: nothing says what {missing} is")
    pack_linears(network)
    network.eval().requires_grad_(False)
    return_free_memory()


def _parts(source: WeightSource, recipe: Recipe) -> Iterable[Tensor]:
    """Tensors that follow one another in a parameter."""
    if recipe.make is concatenated:
        return (source.read(part) for part in recipe.names)
    return [recipe.make([source.read(part).float() for part in recipe.names])]


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


def _layout_of(layer: nn.Module, name: str, kind: ComputeType) -> Layout | None:
    """As what integers a matrix is held; None for what stays floating."""
    if kind not in (ComputeType.INT8, ComputeType.INT4):
        return None
    if not (isinstance(layer, nn.Linear | TokenEmbedding) and name.endswith(".weight")):
        return None
    # Rows of an embedding are looked up too: they stay int8.
    return Layout.INT4 if kind is ComputeType.INT4 and not isinstance(layer, TokenEmbedding) else Layout.INT8


def _layout_of_experts(kind: ComputeType, place: torch.device) -> Layout | None:
    """How experts are held one by one; None for those that are in one tensor."""
    layouts = {ComputeType.INT8: Layout.INT8, ComputeType.INT4: Layout.INT4, ComputeType.BFLOAT16: Layout.PACKED}
    return layouts.get(kind) if place.type == "cpu" else None


def _joined_integers(source: WeightSource, recipe: Recipe, shape: torch.Size, layout: Layout) -> Matrix:
    """Integers and scales of the rows of the first, of the second, ...; those that are stored stay as they are."""
    if recipe.make is concatenated:
        return joined([read_matrix(source, name, layout) for name in recipe.names])
    return rounded(recipe.make([source.read(name).float() for name in recipe.names]).view(shape), layout)
