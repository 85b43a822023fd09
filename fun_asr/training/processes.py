"""The processes of `torchrun` that train one model together; one process alone is all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fun_asr.errors import ConfigError

__all__ = ["Processes", "join_processes", "leave_processes"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Sum a tensor over the processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)

    def mean_losses(self, sums: Mapping[str, float], batches: int) -> tuple[dict[str, float], int]:
        """The losses a batch, and the batches, of all processes."""
        if self.count == 1:
            return {name: total / max(1, batches) for name, total in sums.items()}, batches
        every: list[Any] = [None] * self.count
        dist.all_gather_object(every, (dict(sums), batches))
        whole = sum(count for _, count in every)
        names = dict.fromkeys(name for found, _ in every for name in found)
        return {n: sum(found.get(n, 0.0) for found, _ in every) / max(1, whole) for n in names}, whole

    def average_gradients(self, parameters: Iterable[nn.Parameter], batches: int) -> None:
        """Turn sums of gradients over a process's batches into means over the batches of all.

        Arguments:
            parameters: trained ones, in the same order everywhere; one that no batch reached keeps no gradient.
            batches: of all processes.
        """
        parameters = list(parameters)
        if self.count == 1:
            if batches > 1:
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.grad /= batches
            return
        reached = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=self.device)
        dist.all_reduce(reached)
        waiting = []
        for parameter, there in zip(parameters, reached.tolist(), strict=True):
            if there:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                waiting.append((parameter.grad, dist.all_reduce(parameter.grad, async_op=True)))
        for gradient, work in waiting:
            work.wait()
            gradient /= batches

    def gathered(self, rows: list[Any]) -> list[Any]:
        """The rows of all processes, one process after another."""
        if self.count == 1:
            return rows
        every: list[Any] = [None] * self.count
        dist.all_gather_object(every, rows)
        return [row for part in every for row in part]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


def join_processes() -> Processes:
    """Join the processes that `torchrun` started, each with a GPU of its own where there are any.

    Raises:
        ConfigError: when there are fewer GPUs than processes on this machine.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 1:
        return Processes(device=torch.device("cuda" if gpus else "cpu"))
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local >= gpus:
        raise ConfigError(f"torchrun started more processes than this machine has GPUs ({gpus}); give --nproc-per-node")
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpus else "gloo")
    return Processes(rank, count, device)


def leave_processes() -> None:
    """Leave the group that `join_processes` joined."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
