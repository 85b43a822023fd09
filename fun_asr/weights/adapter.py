"""Adapters on disk, in the format of the PEFT library: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.files import write_atomically
from fun_asr.weights.directory import write_tensors
from fun_asr.weights.sources import read_json

__all__ = ["ADAPTER_CONFIG_FILE", "Adapter", "read_adapter", "write_adapter"]

ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# What PEFT can do beyond a plain product: merged as if it were one, the model would be silently wrong.
_PLAIN = {
    "peft_type": "LORA",
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "use_qalora": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
    "trainable_token_indices": None,
    "megatron_config": None,
}


@dataclass(frozen=True)
class Adapter:
    """What is added to the matrices of a model."""

    where: str
    """Its folder, for messages."""
    scale: float
    thin: Mapping[str, tuple[Tensor, Tensor]]
    """By the name of the matrix: `[R, I]` and `[O, R]`."""

    def added(self, name: str, weight: Tensor) -> Tensor:
        """A matrix with what the adapter adds to it, float32; one that it does not know stays.

        Raises:
            CheckpointError: when the sizes do not fit.
        """
        if name not in self.thin:
            return weight.float()
        A, B = self.thin[name]
        rows, columns = weight.shape[0], weight[0].numel()
        if A.shape[1] != columns or B.shape[0] != rows:
            raise CheckpointError(
                f"{self.where}: {name} is adapted as {len(B)} x {A.shape[1]}, the model's is {rows} x {columns}; the "
                "adapter belongs to another model"
            )
        return weight.float() + (self.scale * B.float() @ A.float()).view_as(weight)

    def check_names(self, known: Iterable[str]) -> None:
        """Refuse an adapter for matrices that the model does not have.

        Raises:
            CheckpointError: naming the first.
        """
        unknown = sorted(set(self.thin) - set(known))
        if unknown:
            raise CheckpointError(
                f"{self.where}: adapts {unknown[0]}, which the model does not have; it belongs to another model"
            )


def write_adapter(
    directory: Path, thin: Mapping[str, tuple[Tensor, Tensor]], *, rank: int, alpha: float, base: str
) -> None:
    """Write an adapter.

    Arguments:
        directory: created if missing.
        thin: by the name of the published matrix: `[R, I]` and `[O, R]`, with a third axis of 1 where it is that of a
            convolution over one frame.
        rank, alpha: as of `fun_asr.layers.lora.LoRALinear`.
        base: the model that it adapts, for the user.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, (A, B) in thin.items():
        module = _PREFIX + name.removesuffix(".weight")
        # Parts of joined projections share the first matrix; a file has one for each.
        tensors[f"{module}.lora_A.weight"] = A.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        tensors[f"{module}.lora_B.weight"] = B.detach().float().cpu().clone(memory_format=torch.contiguous_format)
    write_tensors(directory / ADAPTER_FILE, tensors)
    config = {
        **_PLAIN,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(name.removesuffix(".weight") for name in thin),
        "task_type": None,
        "inference_mode": True,
    }
    write_atomically(directory / ADAPTER_CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def read_adapter(directory: Path) -> Adapter:
    """Read an adapter that `write_adapter` or PEFT wrote.

    Raises:
        CheckpointError: when there is none, a file is damaged, or it is more than a product of two thin matrices.
    """
    path = directory / ADAPTER_CONFIG_FILE
    if not path.exists():
        raise CheckpointError(f"{directory}: no adapter ({ADAPTER_CONFIG_FILE} is missing)")
    values = read_json(path)
    for key, plain in _PLAIN.items():
        if values.get(key, plain) != plain and values[key]:
            raise CheckpointError(f"{path}: {key} is {str(values[key])[:40]}; only plain LoRA adapters can be merged")
    rank, alpha = values.get("r"), values.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or isinstance(rank, bool) or rank < 1:
        raise CheckpointError(f"{path}: r and lora_alpha must be numbers, r at least 1")
    file = directory / ADAPTER_FILE
    try:
        tensors = load_file(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: No such file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: damaged ({error})") from None
    thin: dict[str, tuple[Tensor, Tensor]] = {}
    for key, A in tensors.items():
        module, separator, _ = key.partition(".lora_A.weight")
        if not separator:
            if ".lora_B.weight" not in key:
                raise CheckpointError(f"{file}: {key} is no part of a plain LoRA adapter")
            continue
        B = tensors.get(f"{module}.lora_B.weight")
        if B is None or A.dim() < 2 or B.dim() < 2 or len(A) != rank or B.shape[1] != rank:
            raise CheckpointError(f"{file}: {module} has no two matrices of rank {rank}")
        thin[module.removeprefix(_PREFIX) + ".weight"] = (A.flatten(1), B.flatten(1))
    if not thin:
        raise CheckpointError(f"{file}: adapts nothing")
    return Adapter(str(directory), alpha / rank, thin)
