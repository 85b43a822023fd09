"""`fun-asr batch INPUT... -o OUT`: many recordings into an output tree, in a run that may be cut short at any time."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fun_asr.cli.common import check_decoding, make_writable, parse_language, recognition_options
from fun_asr.cli.output import output_options
from fun_asr.cli.progress import BatchProgress

if TYPE_CHECKING:
    from fun_asr.batch.engine import Engine, Recognition
    from fun_asr.batch.runner import Summary
    from fun_asr.recogniser import Decoding
    from fun_asr.text.hotwords import Hotword
    from fun_asr.writers.base import Writer


@click.command(short_help="Transcribe folders and lists of recordings, resumable.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output_dir", type=click.Path(path_type=Path), required=True, help="Write the transcripts below.")
@output_options
@click.option("-r", "--recursive/--no_recursive", default=True, show_default=True, help="Search folders below folders.")
@click.option("--include", multiple=True, metavar="GLOB", help="Take from folders only what matches; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files and folders that match; repeatable.")
@click.option("--resume", "mode", flag_value="resume", default=True, help="Do what is missing or changed. [default]")
@click.option("--overwrite", "mode", flag_value="overwrite", help="Do everything again, and replace other files.")
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes that share the cores; 0 works in this one. [default: 1]"
)
@click.option("--check_files", is_flag=True, help="Open every recording before the first is transcribed.")
@click.option("--fail_fast", is_flag=True, help="Stop at the first failure.")
@click.option("--max_failures", type=click.IntRange(min=1), metavar="N", help="Stop at the Nth failure.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write counts and failures as JSON.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--ray_address", help="Cluster to join, as Ray takes it. [default: RAY_ADDRESS, or this machine]")
@recognition_options
def batch(
    inputs: tuple[str, ...],
    output_dir: Path,
    writers: dict[str, Writer],
    recursive: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    mode: Literal["resume", "overwrite"],
    workers: int | None,
    check_files: bool,
    fail_fast: bool,
    max_failures: int | None,
    report: Path | None,
    engine: Literal["local", "ray"],
    ray_address: str | None,
    model_dir: Path | None,
    language: str,
    device: str,
    compute_type: str,
    batch_size: int,
    threads: int,
    decoding: Decoding,
    beam_size: int | None,
    word_times: bool,
    punctuation: bool,
    itn: bool,
    hotwords: tuple[Hotword, ...],
) -> None:
    """Transcribe many recordings into files below --output_dir, which mirrors the folders of the recordings.

    \b
    INPUT is
      a folder     all audio and video files in it and below, without hidden files and systems' own folders
      a file, or a quoted glob such as '**/*.wav'
      list.jsonl   a manifest with audio_filepath and, optionally, language in each line (also .json)
      wav.scp      Kaldi's list, an utterance id and a path in each line
      -            on standard input: paths, one a line or as find -print0 writes them, or a manifest's lines

    The same command, run again, does only what is missing or has changed; a run may be killed at any moment. What was
    done is recorded in OUT/.fun-asr-journal. A recording's language is --language, or its manifest's, or is detected.

    \b
    Exit status: 0 all are transcribed, 1 some failed (each with a line on standard error) or the run stopped early,
    2 wrong usage, 130 interrupted.
    """
    if ray_address is not None and engine != "ray":
        raise click.UsageError("--ray_address belongs to --engine ray")
    check_decoding(decoding, beam_size)
    code = parse_language(language)

    from fun_asr.batch.engine import Recognition
    from fun_asr.batch.journal import JOURNAL_FILE, Journal
    from fun_asr.batch.runner import BatchRun, Failure, describe, hash_config
    from fun_asr.inputs.discover import Search
    from fun_asr.inputs.sources import find_sources

    recognition = Recognition(
        model_dir=model_dir,
        language=code,
        device=device,
        compute_type=compute_type,
        threads=threads or _fair_threads(engine, workers),
        decoding=decoding,
        beam_size=beam_size,
        word_times=word_times,
        punctuation=punctuation,
        itn=itn,
        hotwords=hotwords,
        batch_size=batch_size,
    )
    chosen_engine = _engine(engine, recognition, workers, ray_address)
    make_writable(output_dir)
    if report is not None:
        make_writable(report.parent)
    sources = find_sources(inputs, Search(recursive, include, exclude), sys.stdin.buffer)
    if sources.repeated:
        click.echo(f"fun-asr: {sources.repeated} given more than once, taken once", err=True)
    with _terminated_like_interrupted(), Journal(output_dir / JOURNAL_FILE) as journal, BatchProgress() as progress:
        # Another format alone makes no other transcript.
        subtitles = {name: value for writer in writers.values() for name, value in writer.options.items()}
        config = hash_config(recognition.fingerprint(), subtitles)
        tasks, missing = describe(sources.recordings, sources.folder, config, code, journal)
        summary = BatchRun(
            tasks=tasks,
            journal=journal,
            engine=chosen_engine,
            writers=writers,
            output_dir=output_dir,
            observer=progress,
            failures=[*(Failure(getattr(error, "path", None), error) for error in sources.failures), *missing],
            max_failures=1 if fail_fast else max_failures,
            overwrite=mode == "overwrite",
            check_files=check_files,
        ).run()
    _finish(summary, report)


def _fair_threads(engine: str, workers: int | None) -> int:
    """Threads of each worker, such that all together are no more than the cores; 0 leaves torch its own number."""
    from fun_asr.batch.processes import available_cores

    if engine == "ray":
        return 1
    return max(1, available_cores() // workers) if workers and workers > 1 else 0


def _engine(name: str, recognition: Recognition, workers: int | None, ray_address: str | None) -> Engine:
    from fun_asr.batch.engine import InProcessEngine
    from fun_asr.batch.processes import ProcessEngine

    if name == "ray":
        from fun_asr.batch.ray_engine import RayEngine

        return RayEngine(recognition, workers=workers or 0, threads=recognition.threads, address=ray_address)
    if workers == 0:
        return InProcessEngine(recognition)
    return ProcessEngine(recognition, workers or 1)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """A machine that shuts down asks politely first: time enough to end as Ctrl-C does, with a report."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(summary: Summary, report: Path | None) -> None:
    """Say how it went, write the report and leave with the status that says so too."""
    from fun_asr.files import write_atomically

    if report is not None:
        text = json.dumps(summary.to_dict(), ensure_ascii=False, indent=2) + "\n"
        write_atomically(report, text.encode("utf-8", "backslashreplace"))
    parts = [
        f"{summary.transcribed} transcribed ({summary.audio_seconds / 3600:.2f} h of audio, RTFx {summary.rtfx:.1f})",
        f"{summary.done_before} done before",
        f"{len(summary.failures)} failed",
    ]
    click.echo(f"fun-asr: {', '.join(parts)}, of {summary.total}", err=True)
    if summary.status != "finished":
        click.echo(f"fun-asr: {summary.status}, {summary.left} left; the same command goes on from here", err=True)
    if summary.status == "interrupted":
        click.get_current_context().exit(130)
    if summary.failures or summary.left:
        click.get_current_context().exit(1)
