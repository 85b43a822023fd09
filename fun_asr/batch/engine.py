"""Who does the work of a batch: the interface of the engines, and the one that works in its own process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from fun_asr import __version__
from fun_asr.bundled import BUNDLED_MODEL
from fun_asr.errors import ConfigError
from fun_asr.text.hotwords import Hotword
from fun_asr.transcript import Transcript, TranscriptionFailure

if TYPE_CHECKING:
    from fun_asr.transcriber import Transcriber

__all__ = [
    "Engine",
    "Event",
    "InProcessEngine",
    "MakeRecogniser",
    "NextWork",
    "Recognised",
    "Recogniser",
    "Recognition",
    "Work",
    "WorkEnded",
    "perform",
]


Result = Transcript | TranscriptionFailure


@dataclass(frozen=True)
class Work:
    """Recordings to be transcribed together."""

    number: int
    paths: tuple[str, ...]
    language: str | None
    """Code; None detects it."""


@dataclass(frozen=True)
class Recognised:
    """What came of one recording."""

    work: int
    index: int
    """The recording's place in its work."""
    result: Result


@dataclass(frozen=True)
class WorkEnded:
    """No more comes of some work."""

    work: int
    error: str | None
    """Why recordings without a result have none: the worker died, or what it ran failed."""


Event = Recognised | WorkEnded
NextWork = Callable[[], Work | None]
"""Gives the next piece of work; None when there is none now, though an event may bring some."""


class Recogniser(Protocol):
    """A loaded model with its options."""

    def transcribe(self, paths: Sequence[str], language: str | None) -> Generator[Result, None, None]:
        """As `Transcriber.transcribe`."""


MakeRecogniser = Callable[[int], Recogniser]
"""Loads the model for a worker of this number; pickled on its way to another process."""


class Engine(Protocol):
    """Does work in one or more workers."""

    @property
    def workers(self) -> int:
        """Pieces of work done at the same time."""

    def run(self, next_work: NextWork) -> Generator[Event, None, None]:
        """Do work until there is none; closing the iterator ends the workers and drops what they were at.

        Each recording of a work has a `Recognised`, in their order, then the work has a `WorkEnded`; works overlap.

        Raises:
            FunASRError: when no worker can load the model.
        """


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """How a model is loaded and used; called, it loads it."""

    model_dir: Path | None
    """None is the model inside the package."""
    language: str | None
    """Code that the model must know; None for any."""
    device: str
    compute_type: str
    threads: int
    """Of each worker; 0 is torch's own number."""
    decoding: Literal["generate", "ctc"]
    beam_size: int | None
    """None is the default of `Transcriber.transcribe`."""
    word_times: bool
    punctuation: bool
    itn: bool
    hotwords: tuple[Hotword, ...]
    batch_size: int

    def fingerprint(self) -> dict[str, object]:
        """All that decides on transcripts, for JSON; the model by its content.

        Threads are left out, though with another number the last digits of a score may differ.
        """
        directory = BUNDLED_MODEL if self.model_dir is None else self.model_dir
        model = {}
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.is_file():
                with path.open("rb") as file:
                    model[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        options = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {**options, "model_dir": model, "threads": None, "version": __version__}

    def __call__(self, worker: int) -> Recogniser:
        """Load the model.

        Arguments:
            worker: chooses among several accelerators.

        Raises:
            FunASRError: as `fun_asr.load_model`.
        """
        import torch

        from fun_asr.transcriber import load_model

        device = self.device
        if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
            device = f"cuda:{worker % torch.cuda.device_count()}"
        transcriber = load_model(self.model_dir, device=device, compute_type=self.compute_type, threads=self.threads)
        if self.language is not None and self.language not in transcriber.languages:
            raise ConfigError(f"the model does not know the language {self.language!r}")
        return _TranscriberRecogniser(transcriber, self)


class _TranscriberRecogniser:
    def __init__(self, transcriber: Transcriber, recognition: Recognition) -> None:
        self._transcriber = transcriber
        self._recognition = recognition

    def transcribe(self, paths: Sequence[str], language: str | None) -> Generator[Result, None, None]:
        # A manifest may name a language that only other models know.
        known = language if language in self._transcriber.languages else None
        return self._transcriber.transcribe(
            paths,
            language=known,
            decoding=self._recognition.decoding,
            beam_size=self._recognition.beam_size,
            word_times=self._recognition.word_times,
            punctuation=self._recognition.punctuation,
            itn=self._recognition.itn,
            hotwords=self._recognition.hotwords,
            batch_size=self._recognition.batch_size,
        )


def perform(recogniser: Recogniser, work: Work) -> Iterator[Event]:
    """Do one piece of work; whatever is raised ends this work alone."""
    try:
        with closing(recogniser.transcribe(work.paths, work.language)) as results:
            for index, result in enumerate(results):
                yield Recognised(work.number, index, result)
    except Exception as error:
        yield WorkEnded(work.number, f"{type(error).__name__}: {error}")
    else:
        yield WorkEnded(work.number, None)


class InProcessEngine:
    """Works in the process that it is used in."""

    def __init__(self, make: MakeRecogniser) -> None:
        self.workers = 1
        self._make = make

    def run(self, next_work: NextWork) -> Generator[Event, None, None]:
        """As `Engine.run`."""
        recogniser: Recogniser | None = None
        while (work := next_work()) is not None:
            recogniser = recogniser or self._make(0)
            yield from perform(recogniser, work)
