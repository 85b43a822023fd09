"""Batches in the order of an endless plan, made ahead in the background; a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from fun_asr.training.ahead import made_ahead
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
    """Batches as they are planned, made ahead by background threads; None for one that nothing is left of.

    Each batch has its own random generator, seeded by (seed, epoch, index): a run that resumes at batch k sees what an
    uninterrupted run sees there, with however many threads.
    """

    def __init__(
        self,
        planned: Iterable[Planned],
        collate: Callable[[Sequence[Utterance], np.random.Generator], BatchT | None],
        *,
        seed: int,
        threads: int = 1,
    ) -> None:
        self._planned, self._collate, self._seed, self._threads = planned, collate, seed, threads

    def batches(self) -> Generator[tuple[Planned, BatchT | None], None, None]:
        """One after another, with what was planned; close the generator to stop the threads."""
        return made_ahead(self._planned, self._make, self._threads)

    def _make(self, plan: Planned) -> BatchT | None:
        if plan.skipped:
            return None
        return self._collate(plan.utterances, np.random.default_rng([self._seed, plan.epoch, plan.index]))
