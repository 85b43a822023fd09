"""`fun-asr evaluate MANIFEST...`: transcribe and score in one go."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fun_asr.cli.common import make_writable, recognition_options, terminated_like_interrupted
from fun_asr.cli.help import GroupedCommand

if TYPE_CHECKING:
    from fun_asr.options import ModelOptions, TranscriptionOptions


@click.command(
    cls=GroupedCommand,
    short_help="Transcribe manifests and score the transcripts.",
    examples=(
        ("fun-asr evaluate dev.jsonl -o out", "word error rates of a manifest"),
        ("fun-asr evaluate dev.jsonl test.jsonl -o out --by language --html report.html", "with a report to look at"),
        ("fun-asr evaluate -m my-model dev.jsonl -o out --beam_size 1", "of another model, greedy"),
    ),
)
@click.argument(
    "manifests", metavar="MANIFEST...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
@click.option(
    "-o",
    "--output_dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Where transcripts and journals are kept.",
)
@click.option("--workers", type=click.IntRange(min=0), help="As of batch.")
@click.option(
    "--normalizer", type=click.Choice(["none", "basic", "basic_marks", "english"]), default="english", show_default=True
)
@click.option("--spoken", is_flag=True, help="Score the words before inverse text normalization.")
@click.option("--by", type=click.Choice(["set", "corpus", "language", "speaker"]), multiple=True, help="As of wer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report to look at.")
@recognition_options
def evaluate(
    manifests: tuple[Path, ...],
    output_dir: Path,
    workers: int | None,
    normalizer: str,
    spoken: bool,
    by: tuple[str, ...],
    as_json: bool,
    html: Path | None,
    model: ModelOptions,
    options: TranscriptionOptions,
) -> None:
    """Do `fun-asr batch` for each MANIFEST and `fun-asr wer` for all.

    A MANIFEST is JSON Lines with audio_filepath and text, and offset and duration where an utterance is a part of a
    recording, or a data directory of Kaldi's with wav.scp, text and, for parts of recordings, segments.

    The speed (RTFx) is printed on standard error. Run again, it transcribes only what is missing or has changed. A
    recording that fails counts as deletions.

    Exit status: 0, 1 when a recording failed, 2 when something cannot be used, 130 interrupted, 143 terminated.
    """
    from fun_asr.batch.run import BatchOptions, run_batch
    from fun_asr.cli.batch import exit_status, print_summary
    from fun_asr.cli.progress import BatchProgress
    from fun_asr.cli.wer import wer
    from fun_asr.writers.base import JSONWriter

    ctx = click.get_current_context()
    names = [manifest.name if manifest.is_dir() else manifest.stem for manifest in map(Path.absolute, manifests)]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise click.UsageError(
            f"several manifests are called {repeated[0]}: their transcripts need folders of their own"
        )
    status = 0
    folders = []
    for manifest, name in zip(manifests, names, strict=True):
        folders.append(output_dir / name)
        make_writable(folders[-1])
        with terminated_like_interrupted(), BatchProgress() as progress:
            summary = run_batch(
                (str(manifest),),
                folders[-1],
                writers={"json": JSONWriter()},
                model=model,
                options=options,
                batch=BatchOptions(workers=workers),
                observer=progress,
                standard_input=sys.stdin.buffer,
            )
        print_summary(summary)
        status = max(status, exit_status(summary))
        if summary.status != "finished":
            ctx.exit(status)
    ctx.invoke(
        wer,
        references=manifests,
        hypotheses=tuple(folders),
        normalizer=normalizer,
        spoken=spoken,
        by=by,
        as_json=as_json,
        html=html,
    )
    ctx.exit(status)
