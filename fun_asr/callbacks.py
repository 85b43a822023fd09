"""What a function tells a callback, as an iterator."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import TypeVar

__all__ = ["iterate"]

T = TypeVar("T")


class _StoppedError(Exception):
    """Nobody listens any more."""


def iterate(function: Callable[[Callable[[T], None]], object], ahead: int = 64) -> Iterator[T]:
    """What `function` passes to the callback that it is given, one by one; it runs in a thread meanwhile.

    Closing the iterator ends the function at its next call of the callback.

    Arguments:
        function: takes the callback.
        ahead: most values that wait to be taken.

    Raises:
        Exception: what the function raises.
    """
    waiting: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(kind: bool, value: T | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return waiting.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
        raise _StoppedError

    def run() -> None:
        try:
            function(lambda value: put(True, value))
            put(False, None)
        except _StoppedError:
            pass
        except BaseException as error:
            if not stopped.is_set():
                put(False, error)

    # In the caller's context: what it counts or collects goes on in here.
    thread = threading.Thread(target=copy_context().run, args=(run,), name="fun-asr", daemon=True)
    thread.start()
    try:
        while True:
            is_value, value = waiting.get()
            if is_value:
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
