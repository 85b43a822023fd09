"""A batch in one call: from what a caller names to what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from fun_asr.batch.engine import Engine, InProcessEngine, TranscriberLoader
from fun_asr.batch.journal import JOURNAL_FILE, Journal
from fun_asr.batch.processes import ProcessEngine, available_cores
from fun_asr.batch.runner import BatchObserver, BatchRun, Failure, Summary, describe, hash_config
from fun_asr.batch.shards import Task
from fun_asr.errors import AudioDecodeError, ConfigError
from fun_asr.inputs.discover import Search
from fun_asr.inputs.sources import Sources, find_sources
from fun_asr.options import ModelOptions, TranscriptionOptions
from fun_asr.writers.base import Writer

__all__ = ["BatchOptions", "run_batch"]


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Which recordings a batch takes, who does the work, and when it stops."""

    search: Search = field(default_factory=Search)
    """What is taken from folders."""
    engine: Literal["local", "ray"] = "local"
    workers: int | None = None
    """Processes or actors; None is one process, or one actor for each share of the cluster. 0 works in this process."""
    ray_address: str | None = None
    """Of a cluster, as Ray takes it; None joins the one that the environment names, or starts one."""
    overwrite: bool = False
    """Do everything again, and replace files that no batch wrote."""
    check_files: bool = False
    """Open every recording before the first is transcribed."""
    max_failures: int | None = None
    """Stop at this many; None never does."""
    shard: tuple[int, int] | None = None
    """The number of this run, from 1, and of all runs that share the recordings; None takes all."""
    timeout: float | None = None
    """Seconds that a worker process may take for a recording; None gives it all the time."""
    dry_run: bool = False
    """Find out what is to be done, tell the observer, and do nothing."""

    def __post_init__(self) -> None:
        if self.timeout is not None and (self.engine != "local" or self.workers == 0):
            raise ConfigError("timeout needs worker processes, which alone can be ended: --workers 1 or more")


def run_batch(
    inputs: Sequence[str],
    output_dir: Path,
    *,
    writers: Mapping[str, Writer],
    model: ModelOptions,
    options: TranscriptionOptions,
    batch: BatchOptions,
    observer: BatchObserver,
    standard_input: BinaryIO,
    on_audio: Callable[[float], object] | None = None,
) -> Summary:
    """Transcribe many recordings into files, in a run that may be cut short at any time and taken up again.

    Arguments:
        inputs: folders, files, globs and lists, as of `find_sources`.
        output_dir: where outputs and journal go; it must exist, but for a dry run.
        writers: what is written of each recording, by format.
        model: which is loaded by every worker.
        options: how it is used; a language that they name is every recording's.
        batch: how the work is done.
        observer: is told how it goes.
        standard_input: read where `-` is among the inputs.
        on_audio: called with the seconds of audio that are done since the last call, also within recordings; not by
            Ray.

    Raises:
        FunASRError: when the journal cannot be opened, no worker can load the model, or Ray is not installed.
    """
    loader = TranscriberLoader(dataclasses.replace(model, threads=model.threads or _fair_threads(batch)), options)
    engine = _engine(batch, loader, on_audio)
    sources = find_sources(inputs, batch.search, standard_input)
    with _journal(output_dir, batch) as journal:
        # Another format alone makes no other transcript.
        subtitles = {name: value for writer in writers.values() for name, value in writer.options.items()}
        config = hash_config(loader.fingerprint(), subtitles)
        tasks, missing = describe(
            sources.recordings,
            sources.folder,
            config,
            options.language,
            journal,
            named=any(writer.names_recordings for writer in writers.values()),
        )
        run = BatchRun(
            tasks=_of_shard(tasks, sources, batch.shard),
            journal=journal,
            engine=engine,
            writers=writers,
            output_dir=output_dir,
            observer=observer,
            failures=[
                *(Failure(getattr(error, "path", None), error) for error in sources.failures),
                *_of_shard(missing, sources, batch.shard),
            ],
            max_failures=batch.max_failures,
            overwrite=batch.overwrite,
            check_files=batch.check_files,
        )
        summary = run.look() if batch.dry_run else run.run()
    return dataclasses.replace(summary, repeated=sources.repeated, left_out=sources.left_out)


@contextlib.contextmanager
def _journal(output_dir: Path, batch: BatchOptions) -> Iterator[Journal]:
    """The journal of this run: runs that share a folder have one each, and a dry run looks into a copy."""
    name = JOURNAL_FILE if batch.shard is None else "{}-{}-of-{}".format(JOURNAL_FILE, *batch.shard)
    with contextlib.ExitStack() as stack:
        folder = output_dir
        if batch.dry_run:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fun-asr-")))
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                shutil.copyfile(output_dir / name, folder / name)
        yield stack.enter_context(Journal(folder / name))


_Part = TypeVar("_Part", Task, Failure)


def _of_shard(parts: Sequence[_Part], sources: Sources, shard: tuple[int, int] | None) -> list[_Part]:
    """Those whose recordings are this run's: every n-th, so that all runs have as many, one with all of its parts."""
    if shard is None:
        return list(parts)
    number, count = shard
    places = {path: place for place, path in enumerate(dict.fromkeys(one.path for one in sources.recordings))}
    return [part for part in parts if places[_file(part)] % count == number - 1]


def _file(part: Task | Failure) -> str:
    if isinstance(part, Task):
        return part.file
    assert isinstance(part.error, AudioDecodeError)
    return part.error.path


def _fair_threads(batch: BatchOptions) -> int:
    """Threads of each worker, such that all together are no more than the cores; 0 leaves torch its own number."""
    if batch.engine == "ray":
        return 1
    return max(1, available_cores() // batch.workers) if batch.workers and batch.workers > 1 else 0


def _engine(batch: BatchOptions, loader: TranscriberLoader, on_audio: Callable[[float], object] | None) -> Engine:
    if batch.engine == "ray":
        from fun_asr.batch.ray_engine import RayEngine

        return RayEngine(loader, workers=batch.workers or 0, threads=loader.model.threads, address=batch.ray_address)
    if batch.workers == 0:
        return InProcessEngine(loader, on_audio)
    return ProcessEngine(loader, batch.workers or 1, batch.timeout, on_audio=on_audio)
