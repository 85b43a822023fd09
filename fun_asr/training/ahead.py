"""Work that is done ahead in threads, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["made_ahead"]

T = TypeVar("T")
R = TypeVar("R")

RESULTS_A_THREAD = 2


def made_ahead(items: Iterable[T], make: Callable[[T], R], threads: int) -> Generator[tuple[T, R], None, None]:
    """Each item with what `make` makes of it, in the items' order; close the generator to stop.

    Arguments:
        items: read as far ahead as results are kept.
        make: called in several threads at once; what it raises is raised here, in its turn.
        threads: at least one.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    # Threads of their own to each would be as many again as there are processors.
    initializer = None if threads == 1 else lambda: torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead", initializer=initializer)
    try:
        for item in items:
            waiting.append((item, pool.submit(make, item)))
            if len(waiting) > threads * RESULTS_A_THREAD:
                first, made = waiting.popleft()
                yield first, made.result()
        while waiting:
            first, made = waiting.popleft()
            yield first, made.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
