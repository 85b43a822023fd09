"""A run tried out before it starts: its largest batch, what memory that takes, and how long the run will be."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch

from fun_asr.errors import ManifestError
from fun_asr.training.data import Utterance
from fun_asr.training.trainer import Trainer

__all__ = ["Trial", "try_run"]


@dataclass(frozen=True)
class Trial:
    """What a step takes."""

    losses: dict[str, float]
    """Of the batch, before it was trained on."""
    parameters: int
    trained: int
    batches: int
    """In an epoch."""
    largest_seconds: float
    """Of the largest batch, padding included."""
    memory_bytes: int
    """Most that was in use: of the GPU, or of the process where there is none; 0 where the system does not say."""
    step_seconds: float
    run_seconds: float
    """All steps, without the dev sets."""

    def text(self) -> str:
        """For the user, a line each."""
        losses = ", ".join(f"{name.removesuffix('_loss')} {loss:.3f}" for name, loss in self.losses.items())
        hours, minutes = divmod(round(self.run_seconds / 60), 60)
        return "\n".join(
            [
                f"parameters     {self.parameters / 1e6:.2f} M, of which {self.trained / 1e6:.2f} M are trained",
                f"an epoch       {self.batches} batches",
                f"largest batch  {self.largest_seconds:.1f} s of sound with padding; loss: {losses}",
                f"memory         {self.memory_bytes / 2**30:.2f} GiB at most",
                f"a step         {self.step_seconds:.2f} s",
                f"the run        {hours} h {minutes} min without the dev sets",
            ]
        )


def try_run(trainer: Trainer) -> Trial:
    """Train on the largest batch of the first epoch, twice; nothing is written.

    Arguments:
        trainer: whose network is changed by it.

    Raises:
        ManifestError: when no sound of the batch can be decoded.
    """
    plan = trainer.epoch_plan(0)
    window = trainer.trainee.window_seconds

    def padded(batch: list[Utterance]) -> float:
        return len(batch) * max(window, *(utterance.duration for utterance in batch))

    largest = max(plan, key=padded)
    batch = trainer.collate(largest, np.random.default_rng(0))
    if batch is None:
        raise ManifestError(f"{trainer.config.train[0].manifest}: no sound of the largest batch can be decoded")
    trainer.trainee.start()
    cuda = trainer.device.type == "cuda"
    losses = trainer.train_step([batch]) or {}
    # The first step compiles and allocates: the second is what all others are like.
    if cuda:
        torch.cuda.synchronize(trainer.device)
    began = time.monotonic()
    trainer.train_step([batch])
    if cuda:
        torch.cuda.synchronize(trainer.device)
        memory = int(torch.cuda.max_memory_allocated(trainer.device))
    else:
        memory = _most_memory()
    largest_seconds = time.monotonic() - began
    mean = sum(map(padded, plan)) / len(plan)
    config = trainer.config
    step_seconds = largest_seconds * mean / padded(largest) * config.accumulate / trainer.processes.count
    return Trial(
        losses=losses,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        trained=sum(parameter.numel() for parameter in trainer.trained),
        batches=len(plan),
        largest_seconds=padded(largest),
        memory_bytes=memory,
        step_seconds=step_seconds,
        run_seconds=step_seconds * config.steps,
    )


def _most_memory() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
