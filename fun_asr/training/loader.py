"""Batches in the order of an endless plan, made ahead in the background; a resumed run sees the same ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from fun_asr.training.data import Utterance

__all__ = ["Loader", "Planned"]

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class Planned:
    """A batch that is to be made."""

    epoch: int
    index: int
    """Its place in the epoch."""
    of: int
    """Batches in the epoch."""
    utterances: Sequence[Utterance]
    skipped: bool = False
    """Whether another process makes it."""


class Loader(Generic[BatchT]):
    """Batches as they are planned, made ahead by one background thread; None for one that nothing is left of.

    Each batch has its own random generator, seeded by (seed, epoch, index): a run that resumes at batch k sees what an
    uninterrupted run sees there.
    """

    def __init__(
        self,
        planned: Iterable[Planned],
        collate: Callable[[Sequence[Utterance], np.random.Generator], BatchT | None],
        *,
        seed: int,
    ) -> None:
        self._planned, self._collate, self._seed = planned, collate, seed

    def batches(self) -> Generator[tuple[Planned, BatchT | None], None, None]:
        """One after another, with what was planned; close the generator to stop the thread."""
        ready: queue.Queue[tuple[Planned, BatchT | None] | BaseException | None] = queue.Queue(maxsize=4)
        stopped = threading.Event()

        def put(item: tuple[Planned, BatchT | None] | BaseException | None) -> None:
            while not stopped.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                for plan in self._planned:
                    if stopped.is_set():
                        return
                    rng = np.random.default_rng([self._seed, plan.epoch, plan.index])
                    put((plan, None if plan.skipped else self._collate(plan.utterances, rng)))
                put(None)
            except BaseException as error:  # handed to the consumer, which raises it
                put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            thread.join()
