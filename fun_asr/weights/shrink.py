"""Published folders written again with smaller weights; every loader of safetensors reads them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.files import write_atomically
from fun_asr.weights.directory import write_tensors
from fun_asr.weights.int8 import SCALE_SUFFIX, quantize
from fun_asr.weights.sources import INDEX_FILE, SINGLE_FILE, WeightSource, open_safetensors

__all__ = ["shrink_to_int8"]

SHARD_BYTES = 2 * 10**9
_WEIGHT_FILES = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".nemo", ".gguf"}
_KEPT_FLOAT = ("depthwise", "positions", "norm", "bias")
_LEFT_OUT = "num_batches_tracked"  # of BatchNorm: an integer that only its training reads
LEAST_INPUTS = 16  # of an output channel: with fewer the scales are no small part


def shrink_to_int8(directory: Path, output: Path) -> None:
    """Write a published folder with its matrices as int8 per output channel, and the files beside the weights.

    Arguments:
        directory: has `model.safetensors`, or its shards and their index.
        output: created if missing; another folder.

    Raises:
        CheckpointError: when a file is missing, damaged or cannot be written.
    """
    if output.resolve() == directory.resolve():
        raise CheckpointError(f"{output}: would overwrite the model that is read")
    if not any((directory / name).exists() for name in (SINGLE_FILE, INDEX_FILE)):
        raise CheckpointError(f"{directory}: no safetensors here; only those are written again")
    source = open_safetensors(directory)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.is_file() and path.suffix not in _WEIGHT_FILES and path.name != INDEX_FILE:
                shutil.copyfile(path, output / path.name)
    except OSError as error:
        raise CheckpointError(f"{error.filename or output}: {error.strerror or error}") from None
    shards = _shards(source)
    places = {}
    for number, names in enumerate(shards, start=1):
        file = SINGLE_FILE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {stored: tensor for name in names for stored, tensor in _stored(source, name)}
        write_tensors(output / file, tensors)
        places.update(dict.fromkeys(tensors, file))
    if len(shards) > 1:
        index = json.dumps({"metadata": {}, "weight_map": places}, indent=1) + "\n"
        write_atomically(output / INDEX_FILE, index.encode())


def _becomes_int8(name: str, shape: tuple[int, ...]) -> bool:
    matrix = len(shape) >= 2 and name.endswith("weight") and not any(part in name for part in _KEPT_FLOAT)
    return matrix and math.prod(shape[1:]) >= LEAST_INPUTS


def _stored(source: WeightSource, name: str) -> Iterator[tuple[str, Tensor]]:
    tensor = source.read(name)
    if not _becomes_int8(name, tuple(tensor.shape)):
        yield name, tensor.contiguous()
        return
    integers, scale = quantize(name, tensor.float())
    yield name, integers.contiguous()
    yield name + SCALE_SUFFIX, scale.to(torch.float32).contiguous()


def _shards(source: WeightSource) -> list[list[str]]:
    """The tensors of each file, in their order."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in source.shapes.items():
        if name.endswith(_LEFT_OUT):
            continue
        added = math.prod(shape) * (1 if _becomes_int8(name, shape) else 4)
        if size and size + added > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += added
    return shards
