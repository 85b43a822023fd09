"""Reader of CTranslate2's binary model files (version 6 and its neighbours), as mapped arrays."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.errors import CheckpointError

__all__ = ["SCALE_SUFFIX", "float_tensor", "integers_and_scale", "read_spec", "read_variables"]

SCALE_SUFFIX = "_scale"
"""Behind a matrix's name: the name of what its integers were multiplied by, a number an output channel."""

# bfloat16 as its bits: NumPy has no such type.
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16, 5: np.uint16}
_OLDEST_WITH_DTYPES = 4

Variables = Mapping[str, npt.NDArray[np.generic]]


class _Cursor:
    """A place in the bytes of a file."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self.data = data
        self.position = 0

    def number(self, layout: str) -> int:
        (value,) = struct.unpack_from("<" + layout, self.data, self.position)
        self.position += struct.calcsize(layout)
        return int(value)

    def string(self) -> str:
        length = self.number("H")
        if length == 0 or self.position + length > len(self.data):
            raise ValueError("no string")
        text = self.data[self.position : self.position + length - 1].decode("utf-8")
        self.position += length
        return text


def _open(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            # An empty file cannot be mapped.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None


def read_spec(path: Path) -> str | None:
    """What kind of model a file says that it holds, such as "WhisperSpec"; None when it is no CTranslate2 model.

    Raises:
        CheckpointError: when the file cannot be opened.
    """
    cursor = _Cursor(_open(path))
    try:
        version = cursor.number("I")
        spec = cursor.string()
    except (struct.error, ValueError):
        return None
    return spec if version < 256 and spec.isidentifier() else None


def read_variables(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Name to array of every variable in a CTranslate2 `model.bin`, as stored; nothing of them is read before its use.

    The layout, little endian: uint32 version, string spec, uint32 revision, uint32 count, then per variable string
    name, uint8 rank, uint32 dims, uint8 dtype, uint32 bytes, data; then uint32 count of other names for variables, and
    for each the name and the variable's. A string is uint16 length and bytes with a NUL.

    An integer matrix has its scales beside it (`SCALE_SUFFIX`); `float_tensor` applies them.

    Raises:
        CheckpointError: when the file is missing, truncated or of another format.
    """
    cursor = _Cursor(_open(path))
    variables: dict[str, npt.NDArray[np.generic]] = {}
    try:
        version = cursor.number("I")
        if version < _OLDEST_WITH_DTYPES:
            raise CheckpointError(f"{path}: version {version} of CTranslate2's format is too old; convert it again")
        cursor.string()
        cursor.number("I")
        for _ in range(cursor.number("I")):
            name = cursor.string()
            shape = [cursor.number("I") for _ in range(cursor.number("B"))]
            dtype = np.dtype(_DTYPES[cursor.number("B")])
            size = cursor.number("I")
            if size != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} has {size} bytes for {shape}")
            variables[name] = np.frombuffer(cursor.data, dtype, size // dtype.itemsize, cursor.position).reshape(shape)
            cursor.position += size
        # Some files end with the data: no variable has another name.
        for _ in range(cursor.number("I") if cursor.position < len(cursor.data) else 0):
            name = cursor.string()
            variables[name] = variables[cursor.string()]
    except (struct.error, KeyError, ValueError, UnicodeDecodeError):
        raise CheckpointError(f"{path}: no complete CTranslate2 model (damaged at byte {cursor.position})") from None
    return variables


def _as_tensor(array: npt.NDArray[np.generic]) -> Tensor:
    # A copy: what is mapped can neither be written to nor relied upon to be aligned.
    tensor = torch.from_numpy(np.array(array))
    return tensor.view(torch.bfloat16) if array.dtype == np.uint16 else tensor


def integers_and_scale(variables: Variables, name: str) -> tuple[Tensor, Tensor] | None:
    """An int8 variable's integers, and the float32 scale of each output channel, shaped to broadcast over them.

    None for a variable of another type.

    Raises:
        KeyError: when there is no such variable, or its scales are missing.
        ValueError: when its scales do not belong to it, or are no finite positive numbers.
    """
    if variables[name].dtype != np.int8:
        return None
    integers = _as_tensor(variables[name])
    return integers, _steps(variables, name, integers)


def _steps(variables: Variables, name: str, integers: Tensor) -> Tensor:
    """The value of one step of each output channel, `[F, 1, ...]`; the file has the number of steps in 1."""
    scales = _as_tensor(variables[name + SCALE_SUFFIX]).float()
    if scales.dim() == 0 or scales.shape == (1,):
        scales = scales.expand(len(integers))
    if scales.shape != (len(integers),) or not bool((scales > 0).all()) or not bool(scales.isfinite().all()):
        raise ValueError(f"{name}{SCALE_SUFFIX} does not belong to {name}")
    return (1 / scales).view(-1, *[1] * (integers.dim() - 1))


def float_tensor(variables: Variables, name: str) -> Tensor:
    """A variable's values: float32, float16 or bfloat16 as stored, and integers times their scales, float32.

    Raises:
        KeyError, ValueError: as `integers_and_scale`.
    """
    tensor = _as_tensor(variables[name])
    if tensor.is_floating_point():
        return tensor
    return tensor.float() * _steps(variables, name, tensor)
