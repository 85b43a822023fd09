"""A batch in one call: from what a caller names to what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from fun_asr.batch.engine import Engine, InProcessEngine, TranscriberLoader
from fun_asr.batch.journal import JOURNAL_FILE, Journal
from fun_asr.batch.processes import ProcessEngine, available_cores
from fun_asr.batch.runner import BatchObserver, BatchRun, Failure, Summary, describe, hash_config
from fun_asr.inputs.discover import Search
from fun_asr.inputs.sources import find_sources
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
    on_progress: Callable[[float], object] | None = None,
) -> Summary:
    """Transcribe many recordings into files, in a run that may be cut short at any time and taken up again.

    Arguments:
        inputs: folders, files, globs and lists, as of `find_sources`.
        output_dir: where outputs and journal go; it must exist.
        writers: what is written of each recording, by format.
        model: which is loaded by every worker.
        options: how it is used; a language that they name is every recording's.
        batch: how the work is done.
        observer: is told how it goes.
        standard_input: read where `-` is among the inputs.
        on_progress: called with the seconds of audio that are done since the last call, also within recordings; not by
            Ray.

    Raises:
        FunASRError: when the journal cannot be opened, no worker can load the model, or Ray is not installed.
    """
    loader = TranscriberLoader(dataclasses.replace(model, threads=model.threads or _fair_threads(batch)), options)
    engine = _engine(batch, loader, on_progress)
    sources = find_sources(inputs, batch.search, standard_input)
    with Journal(output_dir / JOURNAL_FILE) as journal:
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
        summary = BatchRun(
            tasks=tasks,
            journal=journal,
            engine=engine,
            writers=writers,
            output_dir=output_dir,
            observer=observer,
            failures=[*(Failure(getattr(error, "path", None), error) for error in sources.failures), *missing],
            max_failures=batch.max_failures,
            overwrite=batch.overwrite,
            check_files=batch.check_files,
        ).run()
    return dataclasses.replace(summary, repeated=sources.repeated, left_out=sources.left_out)


def _fair_threads(batch: BatchOptions) -> int:
    """Threads of each worker, such that all together are no more than the cores; 0 leaves torch its own number."""
    if batch.engine == "ray":
        return 1
    return max(1, available_cores() // batch.workers) if batch.workers and batch.workers > 1 else 0


def _engine(batch: BatchOptions, loader: TranscriberLoader, on_progress: Callable[[float], object] | None) -> Engine:
    if batch.engine == "ray":
        from fun_asr.batch.ray_engine import RayEngine

        return RayEngine(loader, workers=batch.workers or 0, threads=loader.model.threads, address=batch.ray_address)
    if batch.workers == 0:
        return InProcessEngine(loader, on_progress)
    return ProcessEngine(loader, batch.workers or 1, on_progress=on_progress)
