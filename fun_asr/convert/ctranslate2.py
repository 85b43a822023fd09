"""Reader of CTranslate2's binary model files (version 6 and its neighbours), as mapped arrays."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fun_asr.errors import CheckpointError

_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_variables(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Name to array of every variable in a CTranslate2 `model.bin`.

    The layout, little endian: uint32 version, string spec, uint32 revision, uint32 count, then per variable string
    name, uint8 rank, uint32 dims, uint8 dtype, uint32 bytes, data. A string is uint16 length and bytes with a NUL.

    Raises:
        CheckpointError: when the file is missing, truncated or of another format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    position = 0

    def take(layout: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from("<" + layout, data, position)
        position += struct.calcsize(layout)
        return int(value)

    def take_string() -> str:
        nonlocal position
        length = take("H")
        text = data[position : position + length - 1].decode("utf-8")
        position += length
        return text

    variables: dict[str, npt.NDArray[np.generic]] = {}
    try:
        take("I")
        take_string()
        take("I")
        for _ in range(take("I")):
            name = take_string()
            shape = [take("I") for _ in range(take("B"))]
            dtype = np.dtype(_DTYPES[take("B")])
            size = take("I")
            variables[name] = np.frombuffer(data, dtype, size // dtype.itemsize, position).reshape(shape)
            position += size
    except (struct.error, KeyError, ValueError, UnicodeDecodeError):
        raise CheckpointError(f"{path}: no complete CTranslate2 model (damaged at byte {position})") from None
    return variables
