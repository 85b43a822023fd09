"""`fun-asr batch INPUT... -o OUT`: many recordings into an output tree, in a run that may be cut short at any time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fun_asr.cli.common import make_writable, recognition_options, terminated_like_interrupted
from fun_asr.cli.log import log_options
from fun_asr.cli.output import output_options
from fun_asr.cli.progress import BatchProgress
from fun_asr.cli.say import say

if TYPE_CHECKING:
    from fun_asr.batch.runner import Summary
    from fun_asr.options import ModelOptions, TranscriptionOptions
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

    from fun_asr.batch.run import BatchOptions, run_batch
    from fun_asr.inputs.discover import Search

    make_writable(output_dir)
    if report is not None:
        make_writable(report.parent)
    with terminated_like_interrupted(), BatchProgress() as progress:
        summary = run_batch(
            inputs,
            output_dir,
            writers=writers,
            model=model,
            options=options,
            batch=BatchOptions(
                search=Search(recursive, include, exclude),
                engine=engine,
                workers=workers,
                ray_address=ray_address,
                overwrite=mode == "overwrite",
                check_files=check_files,
                max_failures=1 if fail_fast else max_failures,
            ),
            observer=progress,
            on_progress=progress.progressed,
            standard_input=sys.stdin.buffer,
        )
    print_summary(summary)
    if report is not None:
        _write_report(summary, report)
    click.get_current_context().exit(exit_status(summary))


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
    """0 where all are transcribed, 130 after an interrupt, else 1."""
    if summary.status == "interrupted":
        return 130
    return 1 if summary.failures or summary.left else 0
