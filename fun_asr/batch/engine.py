"""Who does the work of a batch: the interface of the engines, and the one that works in its own process."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fun_asr import __version__
from fun_asr.audio.excerpt import Excerpt
from fun_asr.bundled import BUNDLED_MODEL, BUNDLED_PUNCTUATION
from fun_asr.errors import ConfigError
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.text.languages import language_in
from fun_asr.transcript import Result, TranscriptionFailure

if TYPE_CHECKING:
    from fun_asr.transcriber import Transcriber

__all__ = [
    "Engine",
    "Event",
    "InProcessEngine",
    "MakeTranscriber",
    "NextWork",
    "RecordingDone",
    "ReportingTranscriber",
    "ShardTranscriber",
    "TranscriberLoader",
    "Work",
    "WorkEnded",
    "perform",
]


@dataclass(frozen=True)
class Work:
    """Recordings to be transcribed together."""

    number: int
    paths: tuple[str | Excerpt, ...]
    language: str | None
    """Code; None detects it."""


@dataclass(frozen=True)
class RecordingDone:
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


Event = RecordingDone | WorkEnded
NextWork = Callable[[], Work | None]
"""Gives the next piece of work; None when there is none now, though an event may bring some."""


class ShardTranscriber(Protocol):
    """A loaded model with its options."""

    def transcribe(self, paths: Sequence[str | Excerpt], language: str | None) -> Generator[Result, None, None]:
        """As `Transcriber.transcribe`."""


@runtime_checkable
class ReportingTranscriber(ShardTranscriber, Protocol):
    """One that says how far it is within recordings."""

    on_audio: Callable[[float], object] | None
    """Called with the seconds of audio that are done since the last call."""


MakeTranscriber = Callable[[int], ShardTranscriber]
"""Loads the model for a worker of this number; pickled on its way to another process."""


class Engine(Protocol):
    """Does work in one or more workers."""

    @property
    def workers(self) -> int:
        """Pieces of work done at the same time."""

    def run(self, next_work: NextWork) -> Generator[Event, None, None]:
        """Do work until there is none; closing the iterator ends the workers and drops what they were at.

        Each recording of a work has a `RecordingDone`, in their order, then the work has a `WorkEnded`; works overlap.

        Raises:
            FunASRError: when no worker can load the model.
        """


@dataclass(frozen=True)
class TranscriberLoader:
    """Which model is loaded and how it is used; called, it loads it."""

    model: ModelOptions
    """Its threads are those of each worker."""
    options: TranscriptionOptions
    """Their language is one that the model must know; each work names its own."""

    def fingerprint(self) -> dict[str, object]:
        """All that decides on transcripts, for JSON; models by their content.

        Threads and the size of batches are left out, though with others the last digits of a score may differ: a run
        that found no memory goes on with smaller ones.
        """
        options = dataclasses.asdict(self.options)
        del options["batch_size"]
        folders = {"model": self.model.directory or BUNDLED_MODEL, "punctuation": BUNDLED_PUNCTUATION}
        return {
            "assets": {name: _hashes(folder) for name, folder in folders.items()},
            "device": self.model.device,
            "compute_type": self.model.compute_type,
            "options": options,
            "version": __version__,
        }

    def __call__(self, worker: int) -> ShardTranscriber:
        """Load the model.

        Arguments:
            worker: chooses among several accelerators.

        Raises:
            FunASRError: as `fun_asr.load_model`.
        """
        import torch

        from fun_asr.transcriber import load

        model = self.model
        if model.device in ("auto", "cuda") and torch.cuda.device_count() > 1:
            model = dataclasses.replace(model, device=f"cuda:{worker % torch.cuda.device_count()}")
        transcriber = load(model)
        for code in (self.options.language, *self.options.languages):
            if code is not None and language_in(transcriber.languages, code) not in transcriber.languages:
                raise ConfigError(f"the model does not know the language {code!r}")
        return _LoadedTranscriber(transcriber, self.options)


def _hashes(model: Path) -> dict[str, str]:
    """Of a model's files, or of the one file that a model is."""
    found = {}
    for path in sorted(model.iterdir()) if model.is_dir() else [model]:
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


class _LoadedTranscriber:
    def __init__(self, transcriber: Transcriber, options: TranscriptionOptions) -> None:
        self._transcriber = transcriber
        self._options = options
        self.on_audio: Callable[[float], object] | None = None

    def transcribe(self, paths: Sequence[str | Excerpt], language: str | None) -> Generator[Result, None, None]:
        known = self._transcriber.languages
        if language is not None and language_in(known, language) not in known:
            # A manifest may name one that only other models know; in another language the text would be wrong.
            return self._refuse(paths, language)
        among = self._options.languages if language is None else ()
        options = dataclasses.replace(self._options, language=language, languages=among)
        return self._transcriber.run(paths, options, self.on_audio)

    @staticmethod
    def _refuse(paths: Sequence[str | Excerpt], language: str) -> Generator[Result, None, None]:
        for path in paths:
            cause = f"{path}: the model does not know the language {language!r} that its list gives"
            yield TranscriptionFailure(path=os.fspath(path), error=ConfigError(cause))


def perform(transcriber: ShardTranscriber, work: Work) -> Iterator[Event]:
    """Do one piece of work; whatever is raised ends this work alone."""
    try:
        with closing(transcriber.transcribe(work.paths, work.language)) as results:
            for index, result in enumerate(results):
                yield RecordingDone(work.number, index, result)
    except Exception as error:
        yield WorkEnded(work.number, f"{type(error).__name__}: {error}")
    else:
        yield WorkEnded(work.number, None)


class InProcessEngine:
    """Works in the process that it is used in.

    Arguments:
        make: loads the model.
        on_audio: is told of the seconds of audio that are done, also within recordings.
    """

    def __init__(self, make: MakeTranscriber, on_audio: Callable[[float], object] | None = None) -> None:
        self.workers = 1
        self._make = make
        self._on_audio = on_audio

    def run(self, next_work: NextWork) -> Generator[Event, None, None]:
        """As `Engine.run`."""
        transcriber: ShardTranscriber | None = None
        while (work := next_work()) is not None:
            if transcriber is None:
                transcriber = self._make(0)
                if isinstance(transcriber, ReportingTranscriber):
                    transcriber.on_audio = self._on_audio
            yield from perform(transcriber, work)
