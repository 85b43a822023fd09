"""What `torch.save` wrote, read a tensor at a time from wherever the file lies, without running its pickle.

The file is a zip archive: a pickle that says which tensors there are, and a record of bytes for each of their storages.
The pickle may name nothing but dictionaries and tensors; instead of making tensors it only notes where they lie.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.weights.sources import WeightSource

__all__ = ["open_torch_archive"]

AT_ONCE = 2**24  # bytes
LARGEST_PICKLE = 16 * 2**20  # bytes: of names, shapes and places alone
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under what training frameworks put the tensors beside what else they save."""
_PICKLE_ERRORS = (
    pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, MemoryError,
    RecursionError, OverflowError, ArithmeticError, NotImplementedError, AssertionError,
)  # fmt: skip
"""What bytes that are no pickle make of its machine."""
_FILE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    KeyError,
)


class _Names(dict[Any, Any]):
    """An OrderedDict of the pickle, without the attributes that it may carry."""

    def __setstate__(self, state: object) -> None:
        pass


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    numel: int


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> int:
        """Elements of the storage from the tensor's first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


def _place(storage: object, offset: object, shape: object, stride: object, *_: object) -> _Place:
    """In the place of the function that makes a tensor of a storage."""
    sizes = [shape, stride]
    if not isinstance(storage, _Storage) or not all(isinstance(part, tuple) for part in sizes):
        raise pickle.UnpicklingError("a tensor without a storage or a shape")
    numbers = [offset, *shape, *stride]  # type: ignore[misc]
    if not all(isinstance(number, int) and 0 <= number < 2**48 for number in numbers):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    place = _Place(storage, offset, shape, stride)  # type: ignore[arg-type]
    if len(place.shape) != len(place.stride) or place.offset + place.span > storage.numel:
        raise pickle.UnpicklingError("a tensor that is larger than its storage")
    return place


def _parameter(data: object, *_: object) -> object:
    return data


class _Reader(pickle.Unpickler):
    """An unpickler that knows what tensors are saved with, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        known = {
            ("collections", "OrderedDict"): _Names,
            ("torch._utils", "_rebuild_tensor_v2"): _place,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no tensor: nothing of it was run")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(numel, int):
            raise pickle.UnpicklingError("something that is no storage")
        return _Storage(dtype, str(key), numel)


def open_torch_archive(
    file: IO[bytes], where: Path, rename: Callable[[str], str | None] = lambda name: name
) -> WeightSource:
    """The tensors of a state dict, which may lie inside a checkpoint.

    Arguments:
        file: what `torch.save` wrote, seekable; stays open as long as the tensors are read.
        where: its name, for messages.
        rename: a tensor's name here for its name there; None for what is left out.

    Raises:
        CheckpointError: when it is damaged, or its pickle would do more than list tensors.
    """
    try:
        archive = zipfile.ZipFile(file)
        pickles = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
            raise CheckpointError(f"{where}: no weights saved by PyTorch (no data.pkl of an expected size)")
        with archive.open(pickles[0]) as record:
            data = record.read(LARGEST_PICKLE + 1)
    except _FILE_ERRORS as error:
        raise CheckpointError(f"{where}: no weights saved by PyTorch, or damaged ({_reason(error)})") from None
    prefix = pickles[0].filename.removesuffix("data.pkl")
    tensors: dict[str, _Place] = {}
    for name, value in _listed(data, where).items():
        renamed = rename(name) if isinstance(name, str) and isinstance(value, _Place) else None
        if renamed is not None:
            tensors[renamed] = value

    def read(name: str) -> Tensor:
        return _read(archive, prefix, tensors[name], f"{where}: {name}")

    return WeightSource(where, {name: place.shape for name, place in tensors.items()}, read)


def _listed(data: bytes, where: Path) -> dict[Any, Any]:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            # The unpickler makes room for as many values as the highest place has.
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(data):
                raise pickle.UnpicklingError("it keeps a value at an impossible place")
        found = _Reader(io.BytesIO(data)).load()
    except _PICKLE_ERRORS as error:
        raise CheckpointError(f"{where}: its pickle is not accepted ({_reason(error)})") from None
    while isinstance(found, dict):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), dict)), None)
        if inner is None or inner is found:
            return found
        found = inner
    raise CheckpointError(f"{where}: holds no names of tensors")


def _read(archive: zipfile.ZipFile, prefix: str, place: _Place, what: str) -> Tensor:
    dtype = place.storage.dtype
    wanted = place.span * dtype.itemsize
    try:
        info = archive.getinfo(f"{prefix}data/{place.storage.key}")
        if info.file_size != place.storage.numel * dtype.itemsize:
            raise ValueError(f"{info.file_size} bytes of {place.storage.numel * dtype.itemsize}")
        with archive.open(info) as record:
            record.seek(place.offset * dtype.itemsize)
            data = bytearray(wanted)
            read = 0
            # In parts: the largest tensors would otherwise be held twice.
            while read < wanted and (part := record.read(min(AT_ONCE, wanted - read))):
                data[read : read + len(part)] = part
                read += len(part)
    except _FILE_ERRORS as error:
        raise CheckpointError(f"{what} is damaged ({_reason(error)})") from None
    if read < wanted:
        raise CheckpointError(f"{what} is cut off; download it again")
    if not dtype.is_floating_point:
        raise CheckpointError(f"{what} is {str(dtype).removeprefix('torch.')}, not floating point")
    if math.prod(place.shape) == 0:
        return torch.empty(place.shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).as_strided(place.shape, place.stride)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
