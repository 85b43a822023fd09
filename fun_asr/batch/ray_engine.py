"""The engine of a Ray cluster: actors that each hold a model; outputs and journal stay with the caller."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fun_asr.batch.engine import Event, MakeTranscriber, NextWork, Work, WorkEnded, perform
from fun_asr.errors import FunASRError

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["RayEngine"]

ASSUMED_WORKERS = 16


class RayEngine:
    """Works in Ray actors, on a cluster that runs already or on one that it starts on this machine.

    Every node needs this package, and finds the recordings and the model under the same paths as the caller; the
    transcripts come back to the caller, which alone writes. An actor that dies ends its work with an error and is
    replaced.

    Arguments:
        make: loads the model in each actor.
        workers: actors; 0 is one for each accelerator of the cluster or, where there is none, for each `threads` cores.
        threads: cores that each actor is given.
        address: of a cluster, as `ray.init` takes it; None joins the one that the environment names (RAY_ADDRESS),
            else starts a local one.

    Raises:
        FunASRError: when Ray is not installed.
    """

    def __init__(self, make: MakeTranscriber, *, workers: int, threads: int, address: str | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise FunASRError("the ray engine needs Ray, which is not installed: pip install .[ray]")
        # Before the cluster is known, work is cut for many.
        self.workers = workers or ASSUMED_WORKERS
        self._make = make
        self._given_workers = workers
        self._threads = threads
        self._address = address

    def run(self, next_work: NextWork) -> Generator[Event, None, None]:
        """As `Engine.run`."""
        ray = _ray()
        joined = ray.is_initialized()
        if not joined:
            self._connect(ray)
        actors: dict[int, _Actor] = {}
        try:
            workers, gpus = self._size(ray.cluster_resources())
            while True:
                for number in range(workers):
                    if number in actors and actors[number].work is not None:
                        continue
                    work = next_work()
                    if work is None:
                        break
                    if number not in actors:
                        actors[number] = _Actor(self._make, number, self._threads, gpus)
                    actors[number].give(work)
                busy = {actor.results: number for number, actor in actors.items() if actor.work is not None}
                if not busy:
                    return
                for results in ray.wait(list(busy), num_returns=1)[0]:
                    number = busy[results]
                    event = actors[number].receive()
                    if event is not None:
                        yield event
                    if actors[number].dead:
                        del actors[number]
        finally:
            for actor in actors.values():
                actor.stop()
            if not joined:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        local = {} if self._address else {"include_dashboard": False}
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise FunASRError(f"{self._address or 'local Ray'}: cannot be used: {error}") from None

    def _size(self, resources: dict[str, float]) -> tuple[int, float]:
        """Actors, and the accelerators of each."""
        accelerators = int(resources.get("GPU", 0))
        if accelerators:
            workers = self._given_workers or accelerators
            return workers, min(1.0, accelerators / workers)
        return self._given_workers or max(1, int(resources.get("CPU", 1)) // self._threads), 0.0


class _Actor:
    """A Ray actor and what it is at."""

    def __init__(self, make: MakeTranscriber, number: int, threads: int, gpus: float) -> None:
        ray = _ray()
        self._actor = ray.remote(num_cpus=threads, num_gpus=gpus)(_RayWorker).remote(make, number)
        self.work: Work | None = None
        self.results: Any = None
        self.dead = False

    def give(self, work: Work) -> None:
        """Hand over work."""
        self.work = work
        self.results = self._actor.perform.options(num_returns="streaming").remote(work)

    def receive(self) -> Event | None:
        """What the actor said, or that it has died; None at the end of its work.

        Raises:
            FunASRError: when it could not load the model.
        """
        ray = _ray()
        assert self.work is not None
        try:
            event: Event | FunASRError = ray.get(next(self.results))
        except StopIteration:
            self.work = None
            return None
        except ray.exceptions.RayError as error:
            self.dead = True
            return WorkEnded(self.work.number, f"the Ray worker ended: {type(error).__name__}")
        if isinstance(event, FunASRError):
            raise event
        return event

    def stop(self) -> None:
        """End the actor and what it is at."""
        _ray().kill(self._actor)


def _ray() -> Any:
    # Ray is an extra, and its decorators hide the types of what they wrap.
    return importlib.import_module("ray")


class _RayWorker:
    """What runs inside an actor."""

    def __init__(self, make: MakeTranscriber, number: int) -> None:
        self._make = make
        self._number = number
        self._transcriber: Any = None

    def perform(self, work: Work) -> Iterator[Event | FunASRError]:
        """Do one piece of work, after loading the model if it is the first."""
        if self._transcriber is None:
            try:
                self._transcriber = self._make(self._number)
            except FunASRError as error:
                yield error
                return
        yield from perform(self._transcriber, work)
