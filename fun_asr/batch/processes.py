"""The engine of one machine: worker processes that share its cores and may die without taking the batch with them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from fun_asr.batch.engine import Event, MakeTranscriber, NextWork, ReportingTranscriber, Work, WorkEnded, perform
from fun_asr.errors import FunASRError

__all__ = ["ProcessEngine", "available_cores"]

JOIN_SECONDS = 5.0
_READY = "ready"


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ProcessEngine:
    """Works in processes, started as there is work for them; the parent loads no model.

    A worker that dies, of a signal or for want of memory, ends its work with an error and is replaced, as is one that
    finishes no recording for too long.

    Arguments:
        make: loads the model in each worker.
        workers: most processes.
        timeout: seconds in which a worker with a loaded model must finish a recording; None gives it all the time.
        on_audio: is told of the seconds of audio that are done, also within recordings.
    """

    def __init__(
        self,
        make: MakeTranscriber,
        workers: int,
        timeout: float | None = None,
        *,
        on_audio: Callable[[float], object] | None = None,
    ) -> None:
        self._make = make
        self._timeout = timeout
        self._on_audio = on_audio
        self.workers = workers

    def run(self, next_work: NextWork) -> Generator[Event, None, None]:
        """As `Engine.run`."""
        workers: dict[int, _Worker] = {}
        try:
            while True:
                for number in range(self.workers):
                    if number in workers and workers[number].work is not None:
                        continue
                    work = next_work()
                    if work is None:
                        break
                    if number not in workers:
                        workers[number] = _Worker(self._make, number)
                    workers[number].give(work)
                busy = {worker.connection: number for number, worker in workers.items() if worker.work is not None}
                if not busy:
                    return
                for connection in wait(list(busy), self._patience(workers.values())):
                    assert isinstance(connection, Connection)
                    number = busy[connection]
                    event = workers[number].receive()
                    if isinstance(event, float):
                        if self._on_audio is not None:
                            self._on_audio(event)
                    elif event is not None:
                        yield event
                    if workers[number].dead:
                        del workers[number]
                for number, worker in list(workers.items()):
                    if self._patience([worker]) == 0 and worker.work is not None:
                        worker.stop()
                        del workers[number]
                        yield WorkEnded(worker.work.number, f"took longer than {self._timeout:g} s (--timeout)")
        finally:
            for worker in workers.values():
                worker.stop()

    def _patience(self, workers: Iterable[_Worker]) -> float | None:
        """Seconds until the first of the workers has taken too long; None where there is no such time."""
        if self._timeout is None:
            return None
        return max(0.0, self._timeout - max(worker.waited for worker in workers))


class _Worker:
    """A process and what it is at."""

    def __init__(self, make: MakeTranscriber, number: int) -> None:
        # Forked, it would have the parent's threads' locks without the threads.
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self.work: Work | None = None
        self.dead = False
        self._ready = False
        self._since = 0.0  # when the work was begun, or last brought a recording
        self._process: BaseProcess = context.Process(
            target=_serve, args=(other_end, make, number), name=f"fun-asr-worker-{number}", daemon=True
        )
        with _interrupts_blocked():
            self._process.start()
        other_end.close()

    @property
    def waited(self) -> float:
        """Seconds since the process last was done with a recording; 0 while it loads the model."""
        return time.monotonic() - self._since if self._ready and self.work is not None else 0.0

    def give(self, work: Work) -> None:
        """Hand over work; a process that has died meanwhile shows when its event is received."""
        self.work = work
        self._since = time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.send(work)

    def receive(self) -> Event | float | None:
        """What the process said, or that it has died; None where that is of no interest.

        A number is the seconds of audio that are done since the last one.

        Raises:
            FunASRError: when it could not load the model.
        """
        assert self.work is not None
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            return self._died(self.work)
        if isinstance(message, float):
            return message
        self._since = time.monotonic()
        if isinstance(message, FunASRError):
            raise message
        if message == _READY:
            self._ready = True
            return None
        event: Event = message
        if isinstance(event, WorkEnded):
            self.work = None
        return event

    def _died(self, work: Work) -> WorkEnded:
        self.dead = True
        self._process.join(JOIN_SECONDS)
        cause = f"the worker process ended ({_end_of(self._process.exitcode)})"
        if not self._ready:
            # Another one would fare no better.
            raise FunASRError(f"{cause} while it loaded the model; if memory is short, use fewer --workers")
        self.connection.close()
        return WorkEnded(work.number, cause)

    def stop(self) -> None:
        """End the process and what it is at."""
        self._process.terminate()
        self._process.join(JOIN_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self.connection.close()


def _end_of(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            return f"{signal.Signals(-exit_code).name}"
        except ValueError:
            return f"signal {-exit_code}"
    return f"exit status {exit_code}"


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal; what starts in here never sees it, and is ended by its parent."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its first start, part of the first process's, would let interrupts through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, make: MakeTranscriber, number: int) -> None:
    """The main function of a worker process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A parent that was killed cannot end its workers.
    threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()
    try:
        transcriber = make(number)
    except FunASRError as error:
        connection.send(error)
        return
    if isinstance(transcriber, ReportingTranscriber):
        transcriber.on_audio = lambda seconds: connection.send(float(seconds))
    connection.send(_READY)
    with contextlib.suppress(EOFError, OSError):
        while True:
            work = connection.recv()
            for event in perform(transcriber, work):
                connection.send(event)


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
