"""What the commands that recognise recordings share: options and their checks, standard input, an output folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from fun_asr.errors import AudioDecodeError, ConfigError, FunASRError

if TYPE_CHECKING:
    from fun_asr.text.hotwords import Hotword
    from fun_asr.transcriber import Transcriber

Command = TypeVar("Command", bound=Callable[..., object])


def _hotwords(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Hotword, ...]:
    from fun_asr.text.hotwords import parse_hotwords

    try:
        return () if value is None else parse_hotwords(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


_MODEL_OPTIONS = (
    click.option(
        "-m", "--model", "model_dir", type=click.Path(path_type=Path), help="Model directory. [default: bundled]"
    ),
    click.option("-l", "--language", default="auto", show_default=True, help="Code or name, such as de or German."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--compute_type",
        type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
        default="auto",
        show_default=True,
        help="Arithmetic of the network; int8 is for the CPU.",
    ),
    click.option(
        "--batch_size",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        help="Most segments (of up to 30 s) recognised at once.",
    ),
    click.option(
        "--threads", type=click.IntRange(min=0), default=0, help="CPU threads of the network. [default: torch's]"
    ),
)

_DECODING_OPTIONS = (
    click.option(
        "--decoding",
        type=click.Choice(["generate", "ctc"]),
        default="generate",
        show_default=True,
        help="ctc is faster and less accurate, and knows English only.",
    ),
    click.option(
        "--beam_size", type=click.IntRange(min=1), help="Hypotheses kept by generate; 1 is greedy. [default: 3]"
    ),
    click.option(
        "--word_timestamps/--no_word_timestamps",
        "word_times",
        default=True,
        show_default=True,
        help="Times and confidence of English words, in the formats that have room for them.",
    ),
    click.option(
        "--punctuation/--no_punctuation", default=True, show_default=True, help="Sentences of ctc's bare words."
    ),
    click.option("--itn/--no_itn", default=True, show_default=True, help="Numbers, dates and the like in digits."),
    click.option(
        "--hotwords",
        metavar="A,B|FILE",
        callback=_hotwords,
        help="Phrases to prefer where they may have been said; in FILE one a line, a tab and its weight if not 1.",
    ),
)


def model_options(command: Command) -> Command:
    """Add the options that choose the model, its language and how it runs."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def recognition_options(command: Command) -> Command:
    """Add those of `model_options` and those that choose how transcripts are decoded and written."""
    for option in reversed((*_MODEL_OPTIONS, *_DECODING_OPTIONS)):
        command = option(command)
    return command


def check_decoding(decoding: str, beam_size: int | None) -> None:
    """Find out whether --decoding and --beam_size go together.

    Raises:
        click.UsageError: when they do not.
    """
    if decoding == "ctc" and beam_size is not None:
        raise click.UsageError("--beam_size belongs to --decoding generate")


def parse_language(language: str) -> str | None:
    """The code of --language; None for auto.

    Raises:
        click.BadParameter: when it is neither auto nor a language.
    """
    from fun_asr.text.tokenizer import language_code

    code = None if language == "auto" else language_code(language)
    if language != "auto" and code is None:
        raise click.BadParameter(f"unknown language {language!r}; use auto, a code or a name", param_hint="--language")
    return code


def check_device(device: str) -> None:
    """Find out before any other work whether --device can be used.

    Raises:
        click.BadParameter: when it is unknown or not available.
    """
    from fun_asr.weights.precision import resolve_device

    try:
        resolve_device(device)
    except FunASRError as error:
        raise click.BadParameter(str(error), param_hint="--device") from None


def load_transcriber(
    model_dir: Path | None, language: str | None, device: str, compute_type: str, threads: int
) -> Transcriber:
    """Load the model; `language` is a code it is to know.

    Raises:
        click.BadParameter: when it does not know the language.
        FunASRError: as `fun_asr.load_model`.
    """
    from fun_asr.transcriber import load_model

    transcriber = load_model(model_dir, device=device, compute_type=compute_type, threads=threads)
    if language is not None and language not in transcriber.languages:
        raise click.BadParameter(f"the model does not know {language!r}", param_hint="--language")
    return transcriber


def make_writable(folder: Path) -> None:
    """Make an output folder where it is missing.

    Raises:
        FunASRError: when it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FunASRError(f"{folder}: cannot be written to: {error.strerror or error}") from None


def print_error(error: FunASRError) -> None:
    """Print one line on standard error."""
    click.echo(f"fun-asr: error: {' '.join(str(error).splitlines())}", err=True)


def without_standard_input(
    recordings: Iterable[str], names: dict[str, str], stack: contextlib.ExitStack
) -> Iterator[str]:
    """The recordings, with a file that holds standard input in the place of `-`.

    Arguments:
        recordings: paths, or `-`.
        names: learns what that file is called on the command line.
        stack: removes the file when it is closed.
    """
    from fun_asr.inputs.discover import STANDARD_INPUT

    for path in recordings:
        if path == STANDARD_INPUT:
            path = os.path.join(stack.enter_context(tempfile.TemporaryDirectory(prefix="fun-asr-")), "standard-input")
            with open(path, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            names[path] = STANDARD_INPUT
        yield path


def renamed(error: FunASRError, names: dict[str, str]) -> FunASRError:
    """The error, naming standard input where its file is one of `without_standard_input`'s."""
    if isinstance(error, AudioDecodeError) and error.path in names:
        return AudioDecodeError("standard input", error.cause)
    return error
