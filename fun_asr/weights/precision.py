"""Which arithmetic runs on which hardware."""

from __future__ import annotations

from enum import StrEnum

import torch

from fun_asr.errors import ConfigError


class ComputeType(StrEnum):
    """Arithmetic of the matrix products."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"
    """Of language models, on the CPU; all else is int8 then."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters that are no matrices of integers."""
        return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.value, torch.float32)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself; elsewhere they are many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and (_has("_is_avx512_bf16_supported") or _has("_is_amx_tile_supported"))


def _has(check: str) -> bool:
    """Whether the processor has what a check of `torch.cpu` asks for, and torch was not told to do without.

    `ATEN_CPU_CAPABILITY=avx2` shows what a processor without AVX-512 would do.
    """
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and _cpu_has(check)


def _cpu_has(check: str) -> bool:
    """What a check of `torch.cpu` says; False where this torch lacks it."""
    function = getattr(torch.cpu, check, None)
    return function is not None and bool(function())


def resolve_device(name: str) -> torch.device:
    """The device of a name such as "cpu" or "cuda:1"; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: when there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if "," in name:
        raise ConfigError(f"device {name!r}: only models with a large language model lie on several devices; name one")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError
        return device
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(f"device {name!r} is unknown or not available here; use auto, cpu or cuda") from None


def resolve_devices(name: str) -> list[torch.device]:
    """The devices of names with commas between, such as "cuda:0,cuda:1", for a network that lies on several.

    Raises:
        ConfigError: when there is no such device, one is named twice, or they are of several kinds.
    """
    devices = [resolve_device(part.strip()) for part in name.split(",")]
    if len({device.type for device in devices}) > 1 or len(set(devices)) < len(devices):
        raise ConfigError(f"devices {name!r} must be different ones of one kind, such as cuda:0,cuda:1")
    return devices


def resolve_compute_type(name: str, device: torch.device, *, int4: bool = False) -> ComputeType:
    """The arithmetic of a name; "auto" is int8 on a CPU, else bfloat16 where the device multiplies it.

    Arguments:
        name: a user's.
        device: where the network computes.
        int4: whether the model has a language model, whose matrices can have 4 bits.

    Raises:
        ConfigError: when the name is unknown, or the device or the model does not have it.
    """
    if name == "auto":
        if device.type == "cpu":
            return ComputeType.INT8
        return ComputeType.BFLOAT16 if bfloat16_is_fast(device) else ComputeType.FLOAT32
    try:
        kind = ComputeType(name)
    except ValueError:
        choices = ", ".join(kind.value for kind in ComputeType)
        raise ConfigError(f"compute type {name!r} is unknown; use auto, {choices}") from None
    if kind is ComputeType.INT4 and not int4:
        raise ConfigError("compute type int4 is for models with a language model; use int8")
    if kind is ComputeType.INT4 and device.type != "cpu":
        raise ConfigError(f"compute type int4 runs on the CPU only; use bfloat16 or float16 on {device}")
    if kind is ComputeType.FLOAT16 and device.type == "cpu":
        raise ConfigError("compute type float16 runs on a GPU only; use bfloat16 or float32 on the CPU")
    return kind
