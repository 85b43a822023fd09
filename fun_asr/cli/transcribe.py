"""`fun-asr transcribe PATH...`: the text of recordings, to standard output or into files."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Never

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
from fun_asr.cli.output import output_options
from fun_asr.cli.streams import STANDARD_INPUT_NAME, is_closed
from fun_asr.errors import AudioDecodeError, FunASRError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tqdm import tqdm

    from fun_asr.inputs.discover import Inputs
    from fun_asr.options import ModelOptions, TranscriptionOptions
    from fun_asr.transcript import Result, Transcript
    from fun_asr.writers.base import Writer

# What stops every file that is still to be written, and not only one with an odd name.
_FATAL_WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@click.command(short_help="Transcribe audio and video files.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@recognition_options
@click.option("-o", "--output_dir", type=click.Path(path_type=Path), help="Write files for each recording in here.")
@output_options
def transcribe(
    paths: tuple[str, ...],
    model: ModelOptions,
    options: TranscriptionOptions,
    output_dir: Path | None,
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
        click.echo(f"fun-asr: {left_out}", err=True)
    if STANDARD_INPUT in inputs.recordings and is_closed(sys.stdin):
        inputs.recordings.remove(STANDARD_INPUT)
        inputs.failures.append(AudioDecodeError(STANDARD_INPUT_NAME, "is closed"))
    # Before the model is loaded, so that a mistyped folder shows at once.
    output = _Output(inputs, output_dir, writers, bare=bare)
    if inputs.recordings:
        transcriber = load_transcriber(model, options.language)
        _run(functools.partial(transcriber.run, options=options), inputs, output)
    if output.failed and output.total > 1:
        click.echo(f"fun-asr: {output.failed} of {output.total} failed", err=True)
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
        from fun_asr.writers.base import json_line

        ((name, writer),) = self._writers.items()
        if name == "json":
            return json_line(transcript)
        if name != "txt":
            return writer.encode(transcript, self._infos[transcript.path or STANDARD_INPUT])
        text = transcript.text.encode()
        if self._bare:
            return text + b"\n"
        assert transcript.path is not None
        return one_field(transcript.path) + b"\t" + text + b"\n"


def _run(recognise: Callable[..., Generator[Result, None, None]], inputs: Inputs, output: _Output) -> None:
    from fun_asr.transcript import TranscriptionFailure

    with contextlib.ExitStack() as stack:
        names: dict[str, str] = {}  # file read for another name -> that name
        bar = stack.enter_context(_progress_bar(inputs))
        results = recognise(
            without_standard_input(inputs.recordings, names, stack),
            on_progress=bar.update if len(inputs.recordings) == 1 else None,
        )
        # Closed before an error leaves this function: its readers must not outlive it.
        for result in stack.enter_context(contextlib.closing(results)):
            with bar.external_write_mode(file=sys.stderr):
                if isinstance(result, TranscriptionFailure):
                    output.fail(renamed(result.error, names))
                else:
                    assert result.path is not None
                    named = dataclasses.replace(result, path=names.get(result.path, result.path))
                    print_warnings(named)
                    output.write(named)
            if len(inputs.recordings) > 1:
                bar.update()


def _progress_bar(inputs: Inputs) -> tqdm[Never]:
    """Seconds of the one recording, or recordings done; silent where standard error is no terminal."""
    from tqdm import tqdm

    from fun_asr.audio.decode import probe

    if len(inputs.recordings) > 1:
        return tqdm(total=len(inputs.recordings), unit="file", disable=None)
    seconds = probe(inputs.recordings[0]) if sys.stderr.isatty() else None
    return tqdm(
        total=None if seconds is None else round(seconds),
        unit="s",
        disable=None,
        bar_format="{l_bar}{bar}| {n:.0f}/{total} s of audio [{elapsed}<{remaining}]" if seconds is not None else None,
    )
