"""Which arithmetic runs on which hardware."""

from __future__ import annotations

from enum import Enum

import torch


class ComputeType(str, Enum):
    """Arithmetic of the matrix products."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself; elsewhere they are many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(check is not None and check() for check in checks)
    return False
