"""`fun-asr batch INPUT... -o OUT`: many recordings into an output tree, in a run that may be cut short at any time."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fun_asr.cli.common import (
    make_writable,
    one_field,
    print_error,
    recognition_options,
    terminated_like_interrupted,
)
from fun_asr.cli.help import GroupedCommand, complete_files
from fun_asr.cli.log import log_options
from fun_asr.cli.output import output_options
from fun_asr.cli.progress import BatchProgress
from fun_asr.cli.say import say
from fun_asr.errors import ConfigError, FunASRError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fun_asr.batch.runner import Failure, Summary
    from fun_asr.batch.shards import Task
    from fun_asr.options import ModelOptions, TranscriptionOptions
    from fun_asr.transcript import Transcript
    from fun_asr.writers.base import Writer


def _shard(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{value!r} is not I/N with a number I from 1 to N, as in 2/8")
    return int(match[1]), int(match[2])


@click.command(
    cls=GroupedCommand,
    short_help="Transcribe folders and lists of recordings, resumable.",
    examples=(
        ("fun-asr batch recordings/ -o out -f txt,srt", "a folder; again, it does what is missing or has changed"),
        ("fun-asr batch list.jsonl -o out -f jsonl", "the recordings of a manifest, or parts of them"),
        ("fun-asr batch recordings/ -o out --dry_run", "only say what would be done"),
        ("fun-asr batch recordings/ -o out --shard 2/8", "the second of eight machines' share"),
        ("find talks -name '*.mp3' | fun-asr batch - -o out", "the paths of a list on standard input"),
    ),
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, shell_complete=complete_files)
@click.option("-o", "--output_dir", type=click.Path(path_type=Path), required=True, help="Write the transcripts below.")
@output_options
@click.option(
    "-r", "--recursive/--no_recursive", default=True, show_default="recursive", help="Search folders below folders."
)
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
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up a recording that takes longer, without the time to load the model.",
)
@click.option(
    "--shard",
    metavar="I/N",
    callback=_shard,
    help="Do every Nth recording from the Ith on: N runs with the same INPUTs do all, on one machine or several.",
)
@click.option("--dry_run", is_flag=True, help="Print what would be done, each recording with its outputs, and stop.")
@click.option(
    "--status",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep a file up to date while the batch runs: JSON, or Prometheus's text in a file.prom.",
)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write counts and failures as JSON.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the work is done: on this machine, or by Ray (extra `ray`), on a cluster too.",
)
@click.option("--ray_address", help="Cluster to join, as Ray takes it. [default: RAY_ADDRESS, or this machine]")
@recognition_options
@log_options
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
    timeout: float | None,
    shard: tuple[int, int] | None,
    dry_run: bool,
    status: Path | None,
    report: Path | None,
    engine: Literal["local", "ray"],
    ray_address: str | None,
    model: ModelOptions,
    options: TranscriptionOptions,
) -> None:
    """Transcribe many recordings into files below --output_dir, which mirrors the folders of the recordings.

    \b
    INPUT is
      a folder     all audio and video files in it and below, without hidden files and systems' own folders
      a file, or a quoted glob such as '**/*.wav'
      list.jsonl   a manifest with audio_filepath and, optionally, language, offset, duration in each line (or .json)
      wav.scp      Kaldi's list, an utterance id and a path in each line
      data/dev     Kaldi's data directory, with a wav.scp and, for parts of recordings, segments
      -            on standard input: paths, one a line or as find -print0 writes them, or a manifest's lines

    The same command, run again, does only what is missing or has changed; a run may be killed at any moment. What was
    done is recorded in OUT/.fun-asr-journal. A recording's language is --language, or its manifest's, or is detected.

    \b
    Exit status: 0 all are transcribed, 1 some failed (each with a line on standard error) or the run stopped early,
    2 wrong usage, 130 interrupted, 143 terminated.
    """
    if ray_address is not None and engine != "ray":
        raise click.UsageError("--ray_address belongs to --engine ray")

    from fun_asr.batch.run import BatchOptions, run_batch
    from fun_asr.batch.status import StatusFile
    from fun_asr.inputs.discover import Search

    try:
        how = BatchOptions(
            search=Search(recursive, include, exclude),
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            overwrite=mode == "overwrite",
            check_files=check_files,
            max_failures=1 if fail_fast else max_failures,
            shard=shard,
            timeout=timeout,
            dry_run=dry_run,
        )
    except ConfigError as error:
        raise click.UsageError(f"--{error}") from None
    if not dry_run:
        for folder in (output_dir, *(file.parent for file in (report, status) if file is not None)):
            make_writable(folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminated_like_interrupted())
        observer: _Listing | StatusFile
        progressed = None
        if dry_run:
            observer = _Listing(output_dir, writers)
        else:
            progress = stack.enter_context(BatchProgress())
            progressed = progress.progressed
            observer = stack.enter_context(StatusFile(status, progress, lambda text: print_error(FunASRError(text))))
        summary = run_batch(
            inputs,
            output_dir,
            writers=writers,
            model=model,
            options=options,
            batch=how,
            observer=observer,
            on_audio=progressed,
            standard_input=sys.stdin.buffer,
        )
        if isinstance(observer, _Listing):
            observer.print()
        else:
            observer.ended(summary)
    print_summary(summary)
    if report is not None:
        _write_report(summary, report)
    click.get_current_context().exit(exit_status(summary))


class _Listing:
    """A `BatchObserver` that prints what is to be done: a recording, and behind tabs its outputs."""

    def __init__(self, output_dir: Path, writers: dict[str, Writer]) -> None:
        self._output_dir, self._writers = output_dir, writers

    def planned(self, tasks: Sequence[Task], left: Sequence[Task]) -> None:
        self._left = {task.key: task for task in left}

    def done(self, task: Task, transcript: Transcript) -> None:
        raise AssertionError("nothing is done in a dry run")

    def failed(self, task: Task | None, failure: Failure) -> None:
        print_error(failure.error)
        if task is not None:
            del self._left[task.key]

    def print(self) -> None:
        for task in self._left.values():
            outputs = (str(self._output_dir / (task.name + writer.extension)) for writer in self._writers.values())
            click.echo(b"\t".join(one_field(text) for text in (task.path, *outputs)))


def _write_report(summary: Summary, report: Path) -> None:
    from fun_asr.files import write_atomically

    text = json.dumps(summary.to_dict(), ensure_ascii=False, indent=2) + "\n"
    write_atomically(report, text.encode("utf-8", "backslashreplace"))


def print_summary(summary: Summary) -> None:
    """Say on standard error how a batch went."""
    from fun_asr.inputs.discover import describe_left_out

    if left_out := describe_left_out(summary.left_out):
        say(left_out)
    if summary.repeated:
        say(f"{summary.repeated} given more than once, taken once")
    if summary.status == "planned":
        done = f"{summary.left} would be transcribed, {summary.done_before} done before"
        say(f"{done}, {len(summary.failures)} failed, of {summary.total}")
        return
    parts = [
        f"{summary.transcribed} transcribed ({summary.audio_seconds / 3600:.2f} h of audio, RTFx {summary.rtfx:.1f})",
        f"{summary.done_before} done before",
        f"{len(summary.failures)} failed",
    ]
    if summary.incomplete:
        parts.insert(1, f"{len(summary.incomplete)} of them incomplete")
    say(f"{', '.join(parts)}, of {summary.total}")
    if summary.status != "finished":
        say(f"{summary.status}, {summary.left} left; the same command goes on from here")


def exit_status(summary: Summary) -> int:
    """0 where all are transcribed, or would be, 130 after an interrupt, 143 after SIGTERM, else 1."""
    by_status = {"interrupted": 130, "terminated": 143, "planned": int(bool(summary.failures))}
    return by_status.get(summary.status, int(bool(summary.failures or summary.left)))
