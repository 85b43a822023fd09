"""Model directories of this family, loaded as float32, bfloat16 or int8.

int8 pays for the decoder's few rows a step; what works on all frames at once, the encoder, CTC head and
cross-attention's keys and values, is bfloat16 where the CPU multiplies it, in the layout that
`fun_asr.weights.packed` gives it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.configuration import from_mapping
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.layers.encoder import sinusoids
from fun_asr.models.fun_asr.config import ModelConfig
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.weights.directory import CONFIG_FILE, load_stored
from fun_asr.weights.int8 import SCALE_SUFFIX, dequantize, quantize
from fun_asr.weights.load import assign, only_shapes, replace_by_int8, works_on_frames
from fun_asr.weights.packed import pack_linears
from fun_asr.weights.precision import ComputeType, bfloat16_is_fast

__all__ = ["build_model", "build_shapes", "load_config", "load_network"]


def load_config(directory: Path) -> ModelConfig:
    """Read a model directory's configuration.

    Raises:
        CheckpointError: when there is none, or it is damaged.
    """
    path = directory / CONFIG_FILE
    try:
        return from_mapping(ModelConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError:
        raise CheckpointError(f"{directory}: no model directory ({CONFIG_FILE} is missing)") from None
    except (ValueError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"{path}: damaged configuration ({error})") from None


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
    assign(model, state, where)
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
        model = build_model(config, dequantize(stored, compute_type.dtype), str(directory)).to(device)
    pack_linears(model)
    return model.eval()


def _int8_network(config: ModelConfig, stored: dict[str, Tensor], where: str, narrow: torch.dtype | None) -> FunASR:
    """The network with int8 matrices, those that work on frames in `narrow` where that is given."""
    of_frames = {name: stored.pop(name) for name in list(stored) if narrow is not None and works_on_frames(name)}
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    for name in [name for name, tensor in stored.items() if _becomes_int8(name, tensor)]:
        weight, scale = stored.pop(name), stored.pop(name + SCALE_SUFFIX, None)
        matrices[name] = quantize(name, weight) if scale is None else (weight, scale)
    state = dequantize(stored) | dequantize(of_frames, narrow or torch.float32)
    # Placeholders without memory let `build_model` check the shapes of the matrices that are replaced below.
    for name, (integers, _) in matrices.items():
        state[name] = torch.empty(integers.shape, device="meta")
    model = build_model(config, state, where)
    replace_by_int8(model, matrices, narrow or torch.float32)
    return model


def _becomes_int8(name: str, tensor: Tensor) -> bool:
    matrix = tensor.dim() == 2 and name.endswith(".weight") and ".router." not in name
    return matrix or name.endswith(".experts.gate_up_EHD")
