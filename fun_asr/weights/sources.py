"""Published weights on disk, read a tensor at a time: safetensors of transformers, PyTorch's `.pt`, CTranslate2.

Beside a matrix of integers in safetensors lie its scales: int8 with one an output channel, or nibbles in uint8 with one
an output channel and group of inputs.

What a file says of its tensors is checked against the file's length before anything is allocated for them, and nothing
in a file is executed.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.kernels.products import GROUP
from fun_asr.weights.ctranslate2 import SCALE_SUFFIX, float_tensor, integers_and_scale, read_variables
from fun_asr.weights.int4 import dequantize_int4, unstored_int4
from fun_asr.weights.int8 import SCALE_SUFFIX as INT8_SCALE_SUFFIX

__all__ = [
    "INDEX_FILE",
    "SINGLE_FILE",
    "WeightSource",
    "open_ctranslate2",
    "open_safetensors",
    "open_torch",
    "read_json",
]

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
LONGEST_NAME = 255  # bytes: of file systems
LARGEST_JSON = 64 * 2**20  # bytes: of the files about a model, none of the published ones has more than a few


@dataclass(frozen=True)
class WeightSource:
    """Stored tensors by their published names."""

    where: Path
    """The file or folder, for messages."""
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    """A tensor's values, in the floating-point type in which they are stored."""
    read_integers: Callable[[str], tuple[Tensor, Tensor] | None] = lambda _: None
    """An int8 matrix's integers and the scale of each output channel, None for what is stored otherwise."""
    read_int4: Callable[[str], tuple[Tensor, Tensor] | None] = lambda _: None
    """An int4 matrix as `quantize_int4` packs it, None for what is stored otherwise."""
    has_int4: bool = False
    """Whether any matrix is stored as int4."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CheckpointError: when it does not, or cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{path}: larger than {LARGEST_JSON >> 20} MiB, no description of a model")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not an object with names and values")
    return values


def open_safetensors(directory: Path) -> WeightSource:
    """The tensors of `model.safetensors`, or of the shards that `model.safetensors.index.json` names.

    Raises:
        CheckpointError: when a file is missing or damaged, or the index names another tensor or folder.
    """
    index = directory / INDEX_FILE
    if not index.exists():
        return _safetensors({None: directory / SINGLE_FILE}, directory / SINGLE_FILE)
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensors to files")
    for name in sorted(set(places.values())):
        elsewhere = PurePosixPath(name).name != name or PureWindowsPath(name).name != name
        if name in ("", ".", "..") or elsewhere or len(name.encode("utf-8", "replace")) > LONGEST_NAME:
            raise CheckpointError(f"{index}: names the file {reprlib.repr(name)}, which is not in this folder")
        if not (directory / name).is_file():
            raise CheckpointError(f"{index}: names the file {name}, which is missing; download it again")
    source = _safetensors({tensor: directory / name for tensor, name in places.items()}, directory)
    missing = next((tensor for tensor in places if tensor not in source.shapes), None)
    if missing is not None:
        raise CheckpointError(f"{directory / places[missing]}: has no tensor {missing}, which the index says is there")
    return source


def _safetensors(places: Mapping[str | None, Path], where: Path) -> WeightSource:
    shards: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    packed = set()
    for path in dict.fromkeys(places.values()):
        try:
            shard: Any = safe_open(path, framework="pt")
            for name in shard.keys():  # noqa: SIM118  (not a dict)
                if None in places or places.get(name) == path:
                    stored = shard.get_slice(name)
                    shards[name], shapes[name] = path, tuple(stored.get_shape())
                    if stored.get_dtype() == "U8":
                        packed.add(name)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: No such file") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged or incomplete ({error}); download it again") from None

    scaled = {name for name in shapes if name + INT8_SCALE_SUFFIX in shapes}
    for name in scaled:
        shape, scales = shapes[name], shapes.pop(name + INT8_SCALE_SUFFIX)
        if name in packed and shape:
            shape = shapes[name] = (*shape[:-1], 2 * shape[-1])
            fitting = [(*shape[:-1], -(-shape[-1] // GROUP))]
        else:
            fitting = [(*shape[:1], *(1 for _ in shape[1:])), (*shape[:-1], 1)]
        if scales not in fitting:
            raise CheckpointError(f"{shards[name]}: {name} has scales of the shape {list(scales)}")

    def tensor_of(name: str) -> Tensor:
        path = shards[name]
        try:
            # Opened anew: the pages of what was read stay in memory until the file is closed.
            with safe_open(path, framework="pt") as shard:
                return shard.get_tensor(name)  # type: ignore[no-any-return]
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged ({error})") from None

    def read(name: str) -> Tensor:
        if name in scaled:
            integers, scale = read_scaled(name)
            if name in packed:
                return dequantize_int4(unstored_int4(integers), scale, shapes[name][-1])
            return integers.float() * scale
        return _checked_float(tensor_of(name), name, shards[name])

    def read_scaled(name: str) -> tuple[Tensor, Tensor]:
        integers, scale = tensor_of(name), tensor_of(name + INT8_SCALE_SUFFIX)
        if integers.dtype not in (torch.int8, torch.uint8):
            raise CheckpointError(f"{shards[name]}: {name} has scales and is not int8 or int4")
        return integers, _checked_float(scale, name + INT8_SCALE_SUFFIX, shards[name]).float()

    def read_int4(name: str) -> tuple[Tensor, Tensor] | None:
        if name not in scaled & packed:
            return None
        nibbles, scale = read_scaled(name)
        return unstored_int4(nibbles), scale.bfloat16()

    return WeightSource(
        where,
        shapes,
        read,
        lambda name: read_scaled(name) if name in scaled - packed else None,
        read_int4,
        bool(scaled & packed),
    )


def open_torch(path: Path, key: str) -> tuple[WeightSource, dict[str, Any]]:
    """The tensors below `key` of a file that `torch.save` wrote, and what else it holds.

    Raises:
        CheckpointError: when the file is missing, damaged, holds anything but tensors and plain values, or nothing at
            `key`.
    """
    try:
        # Mapped: nothing is read before its use. Only tensors and plain values are accepted, never code.
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: No such file") from None
    except Exception as error:  # whatever damaged bytes make of a pickle's instructions
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: damaged, or no weights saved by PyTorch ({reason})") from None
    if not isinstance(values, dict) or not isinstance(values.get(key), dict):
        raise CheckpointError(f"{path}: holds no {key}")
    tensors = {str(name): tensor for name, tensor in values.pop(key).items() if isinstance(tensor, Tensor)}
    room = path.stat().st_size
    for name, tensor in tensors.items():
        # A view may claim any shape over a few bytes, and would only be laid out when it is used.
        if tensor.layout is not torch.strided or not tensor.is_contiguous() or tensor.nbytes > room:
            raise CheckpointError(f"{path}: damaged ({name} is not laid out as it was saved)")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return WeightSource(path, shapes, lambda name: _checked_float(tensors[name], name, path)), values


def open_ctranslate2(path: Path) -> tuple[WeightSource, dict[str, int]]:
    """The tensors of a CTranslate2 `model.bin`, and its single numbers, such as that of the heads.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    variables = read_variables(path)

    def damaged(error: Exception) -> CheckpointError:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        return CheckpointError(f"{path}: damaged ({reason})")

    def read(name: str) -> Tensor:
        try:
            return float_tensor(variables, name)
        except (KeyError, ValueError) as error:
            raise damaged(error) from None

    def read_integers(name: str) -> tuple[Tensor, Tensor] | None:
        try:
            return integers_and_scale(variables, name)
        except (KeyError, ValueError) as error:
            raise damaged(error) from None

    numbers = {name: int(array) for name, array in variables.items() if array.ndim == 0 and array.dtype.kind == "i"}
    shapes = {
        name: tuple(array.shape) for name, array in variables.items() if array.ndim and not name.endswith(SCALE_SUFFIX)
    }
    return WeightSource(path, shapes, read, read_integers), numbers


def _checked_float(tensor: Tensor, name: str, path: Path) -> Tensor:
    if not tensor.is_floating_point():
        raise CheckpointError(f"{path}: {name} is {str(tensor.dtype).removeprefix('torch.')}, not floating point")
    return tensor
