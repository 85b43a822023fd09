"""What a training run leaves on disk to go on from: weights, the optimizer's moments, and what else it remembers."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
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
    frozen: Iterable[str] = (),
) -> None:
    """Write a checkpoint; its folder appears whole or not at all.

    Arguments:
        output: folder of the run.
        step: steps done.
        model, optimizer: `optimizer` holds parameters of `model` alone.
        state: for JSON.
        others: further tensors by the names of their files.
        frozen: parameters that are not trained, and not written.
    """
    left_out = set(frozen)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in left_out}
    folder = output / f"checkpoint-{step:07d}"
    unfinished = folder.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    moments: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{name}:{key}"] = value
    for file, tensors in {MODEL_FILE: weights, OPTIMIZER_FILE: moments, **(others or {})}.items():
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


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, frozen: Iterable[str] = ()) -> None:
    """Give a model and its optimizer what a checkpoint has of them.

    Arguments:
        folder: the checkpoint's.
        model, optimizer: as they were when it was written.
        frozen: parameters that it may lack.

    Raises:
        CheckpointError: when the checkpoint is damaged or of another model.
    """
    parameters = dict(model.named_parameters())
    moments = read_tensors(folder, OPTIMIZER_FILE)
    try:
        load_weights(model, read_tensors(folder, MODEL_FILE), frozen)
        for key, value in moments.items():
            name, _, moment = key.rpartition(":")
            device = parameters[name].device if value.dim() else "cpu"
            optimizer.state[parameters[name]][moment] = value.to(device)
    except (KeyError, RuntimeError) as error:
        raise _damaged(folder, error) from None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], frozen: Iterable[str] = ()) -> None:
    """Give a model its weights; the frozen ones may be missing, no others.

    Raises:
        RuntimeError: when one is missing, unknown or of another shape.
    """
    missing, unknown = model.load_state_dict(weights, strict=False)
    wrong = sorted([*(set(missing) - set(frozen)), *unknown])
    if wrong:
        raise RuntimeError(f"{wrong[0]} is {'unknown' if wrong[0] in unknown else 'missing'}")


class RunFolder:
    """The output folder of a run: checkpoints now and then, of which a killed run goes on, and `final` at the end.

    Arguments:
        output: the folder.
        kept: how many checkpoints stay; all but the newest only with their weights.
        minutes: between checkpoints.
        last: the file that a run writes last.
    """

    def __init__(self, output: Path, *, kept: int, minutes: float, last: str = "final/config.json") -> None:
        self.output, self._kept, self._minutes, self._last = output, kept, minutes, output / last
        self._saved = time.monotonic()

    @property
    def final(self) -> Path:
        """The finished model."""
        return self.output / "final"

    def finished(self, steps: int) -> bool:
        """Whether a run of so many steps has come to its end.

        Raises:
            CheckpointError: when its newest checkpoint is damaged.
        """
        kept = checkpoints(self.output)
        if not kept or not self._last.exists():
            return False
        with damage_named(kept[-1]):
            return int(read_state(kept[-1])["step"]) >= steps

    def begin(self) -> None:
        """Make the folder; a model that an earlier run of fewer steps has finished counts no more."""
        self.output.mkdir(parents=True, exist_ok=True)
        self._last.unlink(missing_ok=True)

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved > 60 * self._minutes

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, object],
        others: Mapping[str, dict[str, Tensor]] | None = None,
        frozen: Iterable[str] = (),
    ) -> None:
        """Write a checkpoint as `write_checkpoint` does, and thin out the older ones."""
        write_checkpoint(self.output, step, model, optimizer, state, others, frozen)
        found = checkpoints(self.output)
        for old in found[:-1]:
            for file in (OPTIMIZER_FILE, *(others or {})):
                (old / file).unlink(missing_ok=True)
        for old in found[: -self._kept]:
            shutil.rmtree(old)
        self._saved = time.monotonic()

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint and its state; None in a new run."""
        kept = checkpoints(self.output)
        return (kept[-1], read_state(kept[-1])) if kept else None


def say(message: str) -> None:
    """Tell the user how the run goes."""
    print(message, file=sys.stderr, flush=True)


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{folder}: damaged checkpoint ({error}); delete the run's checkpoints to start anew")
