"""Published folders written again with smaller weights; every loader of safetensors reads them."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.files import write_atomically
from fun_asr.weights.directory import write_tensors
from fun_asr.weights.int4 import stored_int4
from fun_asr.weights.int8 import SCALE_SUFFIX, quantize
from fun_asr.weights.matrices import rounded
from fun_asr.weights.sources import INDEX_FILE, SINGLE_FILE, WeightSource, open_safetensors
from fun_asr.weights.unfused import unfused
from fun_asr.weights.weight_only import Layout

__all__ = ["shrink_to_int4", "shrink_to_int8"]

SHARD_BYTES = 2 * 10**9
_WEIGHT_FILES = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".nemo", ".gguf"}
_KEPT_FLOAT = ("depthwise", "positions", "norm", "bias", "mlp.gate.", "mixer.gate.")  # the last are routers
_LEFT_OUT = "num_batches_tracked"  # of BatchNorm: an integer that only its training reads
LEAST_INPUTS = 16  # of an output channel: with fewer the scales are no small part

# What transformers calls parts of a decoder-only language model.
_EMBEDDING = "embed_tokens.weight"
_EXPERTS = (".experts.gate_up_proj", ".experts.down_proj")
"""Of all experts of a layer in one tensor `[E, F, D]`."""
_HEAD = re.compile(r"(^|\.)(lm_head|score)\.weight$")

_Layouts = Callable[[str], Layout | None]


def shrink_to_int8(directory: Path, output: Path, source: WeightSource | None = None) -> None:
    """Write a published folder with its matrices as int8 per output channel, and the files beside the weights.

    Arguments:
        directory: has `model.safetensors`, or its shards and their index, where `source` is None.
        output: created if missing; another folder.
        source: the tensors of the folder that are to be written.

    Raises:
        CheckpointError: when a file is missing, damaged or cannot be written.
    """
    source = _open(directory, output, source)
    _write(source, directory, output, lambda name: Layout.INT8 if _is_matrix(source, name) else None)


def shrink_to_int4(directory: Path, output: Path, source: WeightSource | None = None) -> None:
    """Write a published folder with its language model's matrices as int4 and all others as int8.

    The embedding, whose rows are looked up too, is int8.

    Arguments:
        directory: of a model with a decoder-only language model; has `model.safetensors`, or its shards and their
            index, where `source` is None.
        output: created if missing; another folder.
        source: the tensors of the folder that are to be written.

    Raises:
        CheckpointError: when a file is missing, damaged or cannot be written, or there is no language model.
    """
    source = _open(directory, output, source)
    embeddings = [name for name in source.shapes if name.endswith(_EMBEDDING)]
    if not embeddings:
        raise CheckpointError(f"{directory}: has no language model, for which int4 is; use int8")
    layers = tuple(f"{name.removesuffix(_EMBEDDING)}layers." for name in embeddings)
    heads = {name for name in source.shapes if _HEAD.search(name) and not _repeats(source, name, embeddings)}

    def layout_of(name: str) -> Layout | None:
        if not _is_matrix(source, name):
            return None
        is_int4 = (name.startswith(layers) or name in heads) and source.shapes[name][-1] % 2 == 0
        return Layout.INT4 if is_int4 else Layout.INT8

    _write(source, directory, output, layout_of)


def _repeats(source: WeightSource, head: str, embeddings: list[str]) -> bool:
    """Whether an output projection is an embedding that is stored twice: then both must stay the same."""
    same = [name for name in embeddings if source.shapes[name] == source.shapes[head]]
    return any(torch.equal(source.read(head), source.read(name)) for name in same)


def _open(directory: Path, output: Path, source: WeightSource | None) -> WeightSource:
    if output.resolve() == directory.resolve():
        raise CheckpointError(f"{output}: would overwrite the model that is read")
    if source is not None:
        return source
    if not any((directory / name).exists() for name in (SINGLE_FILE, INDEX_FILE)):
        raise CheckpointError(f"{directory}: no safetensors here; only those are written again")
    return unfused(open_safetensors(directory))


def _write(source: WeightSource, directory: Path, output: Path, layout_of: _Layouts) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        # In folders inside lie the configuration and vocabulary of a language model.
        for path in (*directory.iterdir(), *directory.glob("*/*")):
            if path.is_file() and path.suffix not in _WEIGHT_FILES and path.name != INDEX_FILE:
                copied = output / path.relative_to(directory)
                copied.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copied)
    except OSError as error:
        raise CheckpointError(f"{error.filename or output}: {error.strerror or error}") from None
    shards = _shards(source, layout_of)
    places = {}
    for number, names in enumerate(shards, start=1):
        file = SINGLE_FILE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {stored: tensor for name in names for stored, tensor in _stored(source, name, layout_of(name))}
        write_tensors(output / file, tensors)
        places.update(dict.fromkeys(tensors, file))
    if len(shards) > 1:
        index = json.dumps({"metadata": {}, "weight_map": places}, indent=1) + "\n"
        write_atomically(output / INDEX_FILE, index.encode())


def _is_matrix(source: WeightSource, name: str) -> bool:
    shape = source.shapes[name]
    if name.endswith(_EXPERTS):
        return len(shape) == 3 and shape[-1] >= LEAST_INPUTS
    matrix = len(shape) >= 2 and name.endswith("weight") and not any(part in name for part in _KEPT_FLOAT)
    return matrix and math.prod(shape[1:]) >= LEAST_INPUTS


def _stored(source: WeightSource, name: str, layout: Layout | None) -> Iterator[tuple[str, Tensor]]:
    if layout is None:
        yield name, source.read(name).contiguous()
        return
    shape = source.shapes[name]
    if layout is Layout.INT4:
        nibbles, scale = source.read_int4(name) or rounded(source.read(name), layout)
        yield name, stored_int4(nibbles, shape[-1])
        yield name + SCALE_SUFFIX, scale.contiguous()
        return
    if len(shape) == 2 or name.endswith(_EXPERTS):
        integers, scale = rounded(source.read(name), layout)
    else:  # a convolution's output channel has inputs in several dimensions
        integers, scale = quantize("", source.read(name).float())
    yield name, integers.contiguous()
    yield name + SCALE_SUFFIX, scale.to(torch.float32).contiguous()


def _shards(source: WeightSource, layout_of: _Layouts) -> list[list[str]]:
    """The tensors of each file, in their order."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in source.shapes.items():
        if name.endswith(_LEFT_OUT):
            continue
        added = math.prod(shape) * (4 if layout_of(name) is None else 1)
        if size and size + added > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += added
    return shards
