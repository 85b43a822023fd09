"""What a training run leaves on disk to go on from: weights, the optimizer's moments, and what else it remembers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fun_asr.errors import CheckpointError

MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of a run, the newest last."""
    return sorted(path for path in output.glob("checkpoint-*") if path.suffix != ".tmp")


def write_checkpoint(
    output: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, object],
    others: Mapping[str, dict[str, Tensor]] | None = None,
) -> None:
    """Write a checkpoint; its folder appears whole or not at all.

    Arguments:
        output: folder of the run.
        step: steps done.
        model, optimizer: `optimizer` holds parameters of `model` alone.
        state: for JSON.
        others: further tensors by the names of their files.
    """
    folder = output / f"checkpoint-{step:07d}"
    unfinished = folder.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    moments: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{name}:{key}"] = value
    for file, tensors in {MODEL_FILE: model.state_dict(), OPTIMIZER_FILE: moments, **(others or {})}.items():
        save_file(tensors, unfinished / file)
    (unfinished / STATE_FILE).write_text(json.dumps(state))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def read_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint remembers beside tensors.

    Raises:
        CheckpointError: when the checkpoint is damaged.
    """
    try:
        state = json.loads((folder / STATE_FILE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, error) from None
    if not isinstance(state, dict):
        raise _damaged(folder, ValueError(f"{STATE_FILE} is no JSON object"))
    return state


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """What is done with a checkpoint's contents fails as a CheckpointError when they lack something."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(folder, error) from None


def read_tensors(folder: Path, file: str) -> dict[str, Tensor]:
    """The tensors of one of a checkpoint's files.

    Raises:
        CheckpointError: when the checkpoint is damaged.
    """
    try:
        return load_file(folder / file)
    except (OSError, SafetensorError) as error:
        raise _damaged(folder, error) from None


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give a model and its optimizer what a checkpoint has of them.

    Raises:
        CheckpointError: when the checkpoint is damaged or of another model.
    """
    parameters = dict(model.named_parameters())
    moments = read_tensors(folder, OPTIMIZER_FILE)
    try:
        model.load_state_dict(read_tensors(folder, MODEL_FILE))
        for key, value in moments.items():
            name, _, moment = key.rpartition(":")
            device = parameters[name].device if value.dim() else "cpu"
            optimizer.state[parameters[name]][moment] = value.to(device)
    except (KeyError, RuntimeError) as error:
        raise _damaged(folder, error) from None


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{folder}: damaged checkpoint ({error}); delete the run's checkpoints to start anew")
