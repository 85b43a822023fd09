"""Networks from model directories: built without initialising them, and loaded as float32, bfloat16 or int8.

int8 pays for the decoder's few rows a step; what works on all frames at once, the encoder, CTC head and
cross-attention's keys and values, is bfloat16 where the CPU multiplies it, in the layout that
`fun_asr.weights.packed` gives it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.model.config import ModelConfig
from fun_asr.model.decoder import TokenEmbedding
from fun_asr.model.encoder import sinusoids
from fun_asr.model.fun_asr import FunASR
from fun_asr.model.moe import RoutedExperts
from fun_asr.transcript import ModelInfo
from fun_asr.weights.directory import load_config, load_stored
from fun_asr.weights.int8 import SCALE_SUFFIX, Int8Embedding, Int8Experts, Int8Linear, dequantize, quantize
from fun_asr.weights.packed import PackedLinear, pack_linears
from fun_asr.weights.precision import ComputeType, bfloat16_is_fast


class _SkipInitialisation(TorchFunctionMode):
    """Makes `torch.nn.init` do nothing: without memory to fill, its random draws only import seconds of torch."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


@contextmanager
def only_shapes() -> Iterator[None]:
    """Modules made here have parameters with shapes but neither memory nor values."""
    with torch.device("meta"), _SkipInitialisation():
        yield


def build_shapes(config: ModelConfig) -> FunASR:
    """A `FunASR` whose parameters have shapes but neither memory nor values, of whatever size."""
    with only_shapes():
        return FunASR(config)


def build_model(config: ModelConfig, state: dict[str, Tensor], where: str) -> FunASR:
    """A `FunASR` in evaluation mode that holds `state`'s tensors themselves (nothing is initialised and overwritten).

    Raises:
        CheckpointError: when a tensor is missing, unknown or of the wrong shape.
    """
    model = build_shapes(config)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise CheckpointError(f"{where}: the weights do not fit the configuration ({reason})") from None
    # Buffers that are computed, not stored.
    model.encoder.positions = sinusoids(config.encoder.max_frames, config.encoder.dim)
    for router in model.decoder.routers():
        router.load_E = torch.zeros(config.decoder.num_experts, dtype=torch.int64)
    return model.eval()


def load_network(directory: Path, device: torch.device, compute_type: ComputeType) -> FunASR:
    """Load a model directory for inference.

    Arguments:
        directory: what `save_model` wrote, in int8 or float32; float32 matrices are quantised when int8 is asked for.
        device: where the network runs; int8 needs the CPU.
        compute_type: arithmetic of the matrix products.

    Raises:
        CheckpointError: when a file is missing or damaged.
        ConfigError: for int8 on another device than the CPU.
    """
    if compute_type is ComputeType.INT8 and device.type != "cpu":
        raise ConfigError(f"compute type int8 runs on the CPU only; use bfloat16 or float32 on {device}")
    config = load_config(directory)
    stored = load_stored(directory)
    if compute_type is ComputeType.INT8:
        narrow = torch.bfloat16 if bfloat16_is_fast(device) else None
        model = _int8_network(config, stored, str(directory), narrow)
    else:
        dtype = torch.bfloat16 if compute_type is ComputeType.BFLOAT16 else torch.float32
        model = build_model(config, dequantize(stored, dtype), str(directory)).to(device)
    pack_linears(model)
    return model.eval()


def _int8_network(config: ModelConfig, stored: dict[str, Tensor], where: str, narrow: torch.dtype | None) -> FunASR:
    """The network with int8 matrices, those that work on frames in `narrow` where that is given."""
    of_frames = {name: stored.pop(name) for name in list(stored) if narrow is not None and _works_on_frames(name)}
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    for name in [name for name, tensor in stored.items() if _becomes_int8(name, tensor)]:
        weight, scale = stored.pop(name), stored.pop(name + SCALE_SUFFIX, None)
        matrices[name] = quantize(name, weight) if scale is None else (weight, scale)
    state = dequantize(stored) | dequantize(of_frames, narrow or torch.float32)
    # Placeholders without memory let `build_model` check the shapes of the matrices that are replaced below.
    for name, (integers, _) in matrices.items():
        state[name] = torch.empty(integers.shape, device="meta")
    model = build_model(config, state, where)
    for name, (integers, scale) in matrices.items():
        path = name.rpartition(".")[0]
        module = model.get_submodule(path)
        replacement: nn.Module
        if isinstance(module, RoutedExperts):
            replacement = Int8Experts(integers, scale, module.down_EDF.to(narrow or torch.float32))
        elif isinstance(module, TokenEmbedding):
            replacement = Int8Embedding(integers, scale)
        elif isinstance(module, nn.Linear):
            replacement = Int8Linear(integers, scale, module.bias)
        else:
            raise TypeError(f"{name}: no int8 form of {type(module).__name__}")
        model.set_submodule(path, replacement)
    return model


def _works_on_frames(name: str) -> bool:
    return name.startswith(("encoder.", "ctc.")) or ".cross_attention.kv." in name


def _becomes_int8(name: str, tensor: Tensor) -> bool:
    matrix = tensor.dim() == 2 and name.endswith(".weight") and ".router." not in name
    return matrix or name.endswith(".experts.gate_up_EHD")


def describe_network(network: FunASR) -> ModelInfo:
    """What a loaded network computes with: the arithmetic that its layers ended up with, not the one asked for."""
    found: dict[str, set[str]] = {}
    kernels: dict[str, str] = {}
    for name, module in network.named_modules():
        part = name.partition(".")[0]
        if isinstance(module, Int8Linear):
            found.setdefault(part, set()).add("float32" if module.steps is None else "int8")
            kernels["int8"] = "not here: float32" if module.steps is None else f"oneDNN, inputs to {module.steps}"
        elif isinstance(module, PackedLinear):
            found.setdefault(part, set()).add("bfloat16")
            kernels["bfloat16"] = "oneDNN, packed"
        elif isinstance(module, nn.Linear) and ".router." not in name:
            dtype = str(module.weight.dtype).removeprefix("torch.")
            found.setdefault(part, set()).add(dtype)
            if dtype == "bfloat16" and module.weight.device.type == "cpu":
                kernels["bfloat16"] = "torch, not packed"
    return ModelInfo(
        family="fun_asr",
        device=str(next(network.parameters()).device),
        arithmetic={part: ", ".join(sorted(kinds)) for part, kinds in found.items()},
        kernels=kernels,
    )
