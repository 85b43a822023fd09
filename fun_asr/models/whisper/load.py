"""Whisper's weights into a network, a tensor at a time: as float32, bfloat16, float16 or int8.

int8 pays for the decoder's few rows a step; what works on all frames at once, the encoder and the cross-attention's
keys and values, is bfloat16 where the CPU multiplies it. Integers that a file has stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.whisper.checkpoint import Checkpoint
from fun_asr.models.whisper.network import Whisper
from fun_asr.weights.int8 import quantize
from fun_asr.weights.load import assign, only_shapes, replace_by_int8, works_on_frames
from fun_asr.weights.packed import pack_linears
from fun_asr.weights.precision import ComputeType, bfloat16_is_fast

__all__ = ["load_network"]

POSITIONS = "encoder.positions"


def load_network(checkpoint: Checkpoint, device: torch.device, compute_type: ComputeType) -> Whisper:
    """Load a model for inference.

    Arguments:
        checkpoint: what `open_checkpoint` found.
        device: where the network runs; int8 needs the CPU.
        compute_type: arithmetic of the matrix products.

    Raises:
        CheckpointError: when a tensor is missing, unknown or of the wrong shape, or a file is damaged.
        ConfigError: for a compute type that the device does not have.
    """
    if compute_type is ComputeType.INT8 and device.type != "cpu":
        raise ConfigError(f"compute type int8 runs on the CPU only; use bfloat16 or float16 on {device}")
    names = checkpoint.layout.names(checkpoint.config)
    # Before the network is built: a configuration may ask for more layers than there are tensors.
    _check_names(checkpoint, names)
    with only_shapes():
        network = Whisper(checkpoint.config)
    _check_shapes(checkpoint, names, network)
    narrow = torch.bfloat16 if compute_type is ComputeType.INT8 and bfloat16_is_fast(device) else None
    state: dict[str, Tensor] = {}
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    for name, theirs in names.items():
        shape = _shape(network, name)
        if compute_type is ComputeType.INT8 and _becomes_int8(name, shape, narrow):
            matrices[name] = _integers(checkpoint, name, theirs)
            state[name] = torch.empty(shape, device="meta")
            continue
        dtype = narrow if narrow is not None and works_on_frames(name) else compute_type.dtype
        state[name] = _joined(checkpoint, theirs, shape, dtype).to(device)
    _check_tied(checkpoint, state.get("decoder.embedding.weight"))
    positions = state.pop(POSITIONS)
    assign(network, state, str(checkpoint.source.where))
    network.encoder.positions = positions
    replace_by_int8(network, matrices, narrow or torch.float32)
    pack_linears(network)
    return network.eval()


def _check_names(checkpoint: Checkpoint, names: dict[str, tuple[str | None, ...]]) -> None:
    there = checkpoint.source.shapes
    wanted = {theirs for row in names.values() for theirs in row if theirs is not None}
    missing = next((name for row in names.values() for name in row if name is not None and name not in there), None)
    if missing is not None:
        raise CheckpointError(f"{checkpoint.source.where}: has no tensor {missing}, which the configuration asks for")
    unknown = next((name for name in there if name not in wanted and name not in checkpoint.layout.unused), None)
    if unknown is not None:
        raise CheckpointError(f"{checkpoint.source.where}: the tensor {unknown} has no place in the configured network")


def _shape(network: Whisper, name: str) -> torch.Size:
    if name == POSITIONS:
        return network.encoder.positions.shape
    return network.get_parameter(name).shape


def _check_shapes(checkpoint: Checkpoint, names: dict[str, tuple[str | None, ...]], network: Whisper) -> None:
    for name, theirs in names.items():
        rows, *rest = _shape(network, name)
        for part in theirs:
            if part is None:
                continue
            found, expected = checkpoint.source.shapes[part], (rows // len(theirs), *rest)
            if found != expected:
                raise CheckpointError(
                    f"{checkpoint.source.where}: {part} has the shape {list(found)}, "
                    f"the configuration asks for {list(expected)}"
                )


def _joined(checkpoint: Checkpoint, theirs: tuple[str | None, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    parts = [None if name is None else checkpoint.source.read(name).to(dtype) for name in theirs]
    if len(parts) == 1 and parts[0] is not None:
        return parts[0].contiguous()
    zeros = torch.zeros(shape[0] // len(parts), *shape[1:], dtype=dtype)
    return torch.cat([zeros if part is None else part for part in parts])


def _integers(checkpoint: Checkpoint, name: str, theirs: tuple[str | None, ...]) -> tuple[Tensor, Tensor]:
    found = []
    for part in theirs:
        assert part is not None  # only biases may be
        stored = checkpoint.source.read_integers(part)
        found.append(quantize(name, checkpoint.source.read(part).float()) if stored is None else stored)
    integers, scales = zip(*found, strict=True)
    return torch.cat(integers), torch.cat(scales)


def _becomes_int8(name: str, shape: torch.Size, narrow: torch.dtype | None) -> bool:
    if len(shape) != 2 or not name.endswith(".weight"):
        return False
    return narrow is None or not works_on_frames(name)


def _check_tied(checkpoint: Checkpoint, embedding: Tensor | None) -> None:
    """Whisper's output projection is its embedding: a model where it is another one would be silently wrong."""
    theirs = "proj_out.weight"
    if embedding is None or embedding.is_meta or theirs not in checkpoint.source.shapes:
        return
    if not torch.equal(checkpoint.source.read(theirs).to(embedding), embedding):
        raise CheckpointError(f"{checkpoint.source.where}: {theirs} differs from the embeddings; that is not known")
