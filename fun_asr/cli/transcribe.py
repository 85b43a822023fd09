"""`fun-asr transcribe PATH...`: the text of recordings, to standard output or into files."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fun_asr.cli.common import (
    check_device,
    load_transcriber,
    make_writable,
    one_field,
    print_error,
    print_warnings,
    recognition_options,
    renamed,
    without_standard_input,
)
from fun_asr.cli.help import GroupedCommand, complete_files
from fun_asr.cli.log import log_options
from fun_asr.cli.output import output_options
from fun_asr.cli.progress import Progress, record_done
from fun_asr.cli.say import say
from fun_asr.cli.streams import STANDARD_INPUT_NAME, is_closed
from fun_asr.errors import AudioDecodeError, FunASRError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from fun_asr.inputs.discover import Inputs
    from fun_asr.options import ModelOptions, TranscriptionOptions
    from fun_asr.transcript import Result, Segment, Transcript
    from fun_asr.writers.base import Writer

# What stops every file that is still to be written, and not only one with an odd name.
_FATAL_WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@click.command(
    cls=GroupedCommand,
    short_help="Transcribe audio and video files.",
    examples=(
        ("fun-asr transcribe talk.mp4", "the text, on standard output"),
        ("fun-asr transcribe -l de -f srt -o out talk.mp4", "German subtitles, in out/talk.srt"),
        ("fun-asr transcribe -o out -f json,srt recordings/", "of every recording in a folder and below"),
        ('fun-asr transcribe --hotwords "Quillan, Ada Lovelace" talk.m4a', "with names it should know"),
        ("fun-asr transcribe --clip_timestamps 0,30,60,90 talk.mp3", "the first half minute and the third"),
        ("cat call.wav | fun-asr transcribe -", "of standard input"),
    ),
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, shell_complete=complete_files)
@recognition_options
@click.option("-o", "--output_dir", type=click.Path(path_type=Path), help="Write files for each recording in here.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Print segments with their times on standard error as they are recognised."
)
@output_options
@log_options
def transcribe(
    paths: tuple[str, ...],
    model: ModelOptions,
    options: TranscriptionOptions,
    output_dir: Path | None,
    verbose: bool,
    writers: dict[str, Writer],
) -> None:
    """Transcribe audio and video files. A folder stands for all recordings in it and below; - is standard input.

    \b
    Without --output_dir one format goes to standard output:
      one file            its text
      several, or folders PATH, a tab, the text: one line a file; also of a quoted '*.wav'
      -f json             one JSON object a line
      -f jsonl, ctm, stm  the recordings' lines, one recording after the other
      another format      one recording alone
    With it, every recording gets files: talk.wav becomes talk.txt, or talk.wav.txt where there is also a talk.mp3;
    the folders below the common folder of all PATHs are kept.

    Exit status: 0 all transcribed, 1 some or all failed (each with a line on standard error), 2 wrong usage.
    """
    from fun_asr.inputs.discover import STANDARD_INPUT, describe_left_out, find_recordings, is_several

    bare = not is_several(paths)
    if output_dir is None:
        _check_printable(writers, bare=bare)
    check_device(model.device)

    inputs = find_recordings(paths)
    if left_out := describe_left_out(inputs.left_out):
        say(left_out)
    if STANDARD_INPUT in inputs.recordings and is_closed(sys.stdin):
        inputs.recordings.remove(STANDARD_INPUT)
        inputs.failures.append(AudioDecodeError(STANDARD_INPUT_NAME, "is closed"))
    # Before the model is loaded, so that a mistyped folder shows at once.
    output = _Output(inputs, output_dir, writers, bare=bare)
    if inputs.recordings:
        transcriber = load_transcriber(model, options.language)
        _run(functools.partial(transcriber.run, options=options), inputs, output, verbose=verbose)
    if output.failed and output.total > 1:
        say(f"{output.failed} of {output.total} failed", failed=output.failed, total=output.total)
    if output.failed:
        click.get_current_context().exit(1)


def _check_printable(writers: dict[str, Writer], *, bare: bool) -> None:
    if len(writers) > 1:
        raise click.UsageError("several formats need --output_dir")
    for name, writer in writers.items():
        if not (bare or writer.concatenates or name == "json"):
            raise click.UsageError(f"-f {name} of several recordings needs --output_dir")


class _Output:
    """Puts results where they belong and counts what failed.

    Raises:
        FunASRError: when the output folder cannot be made or written to.
    """

    def __init__(self, inputs: Inputs, output_dir: Path | None, writers: dict[str, Writer], *, bare: bool) -> None:
        from fun_asr.audio.names import short_names
        from fun_asr.inputs.discover import STANDARD_INPUT, output_names
        from fun_asr.inputs.info import RecordingInfo

        self._writers = writers
        self._bare = bare
        self._output_dir = output_dir
        self._names = output_names(inputs.recordings, inputs.folder)
        called = short_names(path for path in inputs.recordings if path != STANDARD_INPUT)
        self._infos = {path: RecordingInfo(name=called.get(path)) for path in inputs.recordings}
        if output_dir is not None:
            make_writable(output_dir)
        self.total = len(inputs.recordings) + len(inputs.failures)
        self.failed = 0
        for error in inputs.failures:
            self.fail(error)

    def fail(self, error: FunASRError) -> None:
        """Report a recording's failure on standard error."""
        self.failed += 1
        print_error(error)

    def write(self, transcript: Transcript) -> None:
        """Print a transcript, or write its file.

        Raises:
            OSError: when standard output is closed.
            FunASRError: when nothing can be written any more.
        """
        assert transcript.path is not None
        if self._output_dir is None:
            click.echo(self._printed(transcript), nl=False)
            return
        for writer in self._writers.values():
            place = self._output_dir / (self._names[transcript.path] + writer.extension)
            try:
                writer.write(transcript, place, self._infos[transcript.path])
            except OSError as error:
                cause = FunASRError(f"{place}: {error.strerror or error}")
                if error.errno in _FATAL_WRITE_ERRORS:
                    raise cause from error
                self.fail(cause)
                return

    def _printed(self, transcript: Transcript) -> bytes:
        from fun_asr.inputs.discover import STANDARD_INPUT
        from fun_asr.writers.base import encoded

        ((name, writer),) = self._writers.items()
        if (line := writer.line(transcript)) is not None:
            return encoded(line)
        if name != "txt":
            return writer.encode(transcript, self._infos[transcript.path or STANDARD_INPUT])
        text = transcript.text.encode()
        if self._bare:
            return text + b"\n"
        assert transcript.path is not None
        return one_field(transcript.path) + b"\t" + text + b"\n"


def _run(
    recognise: Callable[..., Generator[Result, None, None]], inputs: Inputs, output: _Output, *, verbose: bool
) -> None:
    from fun_asr.transcript import TranscriptionFailure

    with contextlib.ExitStack() as stack:
        names: dict[str, str] = {}  # file read for another name -> that name
        progress = stack.enter_context(Progress())
        progress.begin({path: _size(path) for path in inputs.recordings}, len(inputs.recordings))

        def show(path: str | None, segments: Sequence[Segment]) -> None:
            with progress.out_of_the_way(sys.stderr):
                for segment in segments:
                    named = f"{names.get(path or '', path)}\t" * (len(inputs.recordings) > 1)
                    times = f"[{_clock(segment.start)} --> {_clock(segment.end)}]"
                    click.echo(f"{named}{times} {segment.text}", err=True)

        results = recognise(
            without_standard_input(inputs.recordings, names, stack),
            on_audio=progress.add,
            on_segments=show if verbose else None,
        )
        # Closed before an error leaves this function: its readers must not outlive it.
        for result in stack.enter_context(contextlib.closing(results)):
            assert result.path is not None
            path = names.get(result.path, result.path)
            if isinstance(result, TranscriptionFailure):
                output.fail(renamed(result.error, names))
                progress.finish(path, failed=True)
                continue
            named = dataclasses.replace(result, path=path)
            print_warnings(named)
            record_done(named)
            with progress.out_of_the_way(sys.stdout):
                output.write(named)
            progress.finish(path, seconds=named.duration)


def _clock(seconds: float) -> str:
    """As Whisper prints times: 00:01.500, and hours where there are any."""
    minutes, rest = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours:02}:" if hours else "") + f"{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"


def _size(path: str) -> int | None:
    """Bytes of a file; None of what has no such number."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
