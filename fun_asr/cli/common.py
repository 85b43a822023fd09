"""What the commands that recognise recordings share: options and their checks, standard input, an output folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fun_asr.audio.options import AudioOptions, RawFormat
from fun_asr.cli.help import complete_files, complete_languages
from fun_asr.cli.say import say
from fun_asr.errors import AudioDecodeError, ConfigError, FunASRError, Terminated
from fun_asr.options import DEFAULT_BEAM_SIZE, ModelOptions, TranscriptionOptions

if TYPE_CHECKING:
    from fun_asr.audio.excerpt import Excerpt
    from fun_asr.text.hotwords import Hotword
    from fun_asr.transcriber import Transcriber
    from fun_asr.transcript import Transcript

Command = TypeVar("Command", bound=Callable[..., object])

_DEBUG = "fun_asr.debug"


def set_debugging(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Remember --debug, given to the group or to its command."""
    # ctx.meta is shared by the contexts of the group and of its commands.
    if value:
        ctx.meta[_DEBUG] = True


def debugging(ctx: click.Context) -> bool:
    """Whether --debug was given."""
    return bool(ctx.meta.get(_DEBUG))


def _languages(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    if value.strip() == "auto":
        return ()
    from fun_asr.text.languages import language_code, unknown_language

    codes: dict[str, None] = {}
    for name in value.split(","):
        code = language_code(name)
        if code is None:
            raise click.BadParameter(unknown_language(name))
        codes[code] = None
    return tuple(codes)


def _model(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """The folder or file; a published model's name, which is none, is answered with how to get it."""
    if value is not None and not value.exists():
        from fun_asr.hub.catalogue import catalogue

        names = [model.name for model in catalogue()]
        whisper = {"large": "large-v3", "turbo": "large-v3-turbo"}.get(str(value), str(value))
        for name in (str(value), f"whisper-{whisper}", value.name):
            if name in names:
                raise click.BadParameter(
                    f"there is no folder {value}; fetch it with fun-asr models download {name}, then -m {name}"
                )
    return value


def _hotwords(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Hotword, ...]:
    from fun_asr.text.hotwords import parse_hotwords

    try:
        return () if value is None else parse_hotwords(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def _clips(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    from fun_asr.clips import parse_clips

    try:
        return () if value is None else parse_clips(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def _raw(ctx: click.Context, param: click.Parameter, value: str | None) -> RawFormat | None:
    try:
        return None if value is None else RawFormat.parse(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


# Each is called like the field of `ModelOptions`, `TranscriptionOptions` or `AudioOptions` that it sets.
_MODEL_OPTIONS = (
    click.option(
        "-m",
        "--model",
        "directory",
        type=click.Path(path_type=Path),
        callback=_model,
        help="A model's folder as it is published, or its .nemo or .pt file. [default: bundled]",
    ),
    click.option(
        "-l",
        "--language",
        "languages",
        default="auto",
        show_default=True,
        callback=_languages,
        shell_complete=complete_languages,
        help="Code, tag or name: de, pt-BR, German; several with commas are those that are looked for.",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda or cuda:N; several with commas for a large language model.",
    ),
    click.option(
        "--compute_type",
        type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8", "int4"]),
        default="auto",
        show_default=True,
        help="Arithmetic of the network; int8 and int4 (language models alone) are for the CPU, float16 for a GPU.",
    ),
    click.option(
        "--aligner",
        type=click.Path(path_type=Path),
        help="Folder of a forced aligner that finds when the words of Qwen's models are said.",
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
        "--beam_size",
        type=click.IntRange(min=1),
        default=DEFAULT_BEAM_SIZE,
        show_default=True,
        help="Hypotheses kept by generate; 1 is greedy.",
    ),
    click.option(
        "--word_timestamps/--no_word_timestamps",
        "word_times",
        default=True,
        show_default=True,
        help="Times and confidence of words, in the formats that have room for them.",
    ),
    click.option(
        "--punctuation/--no_punctuation", default=True, show_default=True, help="Sentences of ctc's bare words."
    ),
    click.option("--itn/--no_itn", default=True, show_default=True, help="Numbers, dates and the like in digits."),
    click.option(
        "--hotwords",
        metavar="A,B|FILE",
        callback=_hotwords,
        shell_complete=complete_files,
        help="Phrases to prefer where they may have been said; in FILE one a line, a tab and its weight if not 1.",
    ),
)


_DECODER_OPTIONS = (
    click.option(
        "--task",
        type=click.Choice(["transcribe", "translate"]),
        default="transcribe",
        show_default=True,
        help="translate writes English whatever is spoken, with a model that can.",
    ),
    click.option(
        "--initial_prompt",
        default="",
        help="Text that the model takes for what was said before: names and spelling to follow.",
    ),
    click.option(
        "--temperature_fallback",
        is_flag=True,
        help="Try loops and unlikely texts again at random, as Whisper does; for models without a CTC head.",
    ),
)

_AUDIO_OPTIONS = (
    click.option(
        "--clip_timestamps",
        metavar="START,END,...",
        callback=_clips,
        help="Transcribe these parts alone, in seconds: 0,30,60,90; without the last end to the end.",
    ),
    click.option(
        "--channels",
        default="mix",
        show_default=True,
        metavar="mix|left|right|each|N",
        help="Which channels to hear; each transcribes every one by itself and labels it.",
    ),
    click.option(
        "--track", metavar="N|LANGUAGE|all", help="Which audio track of several. [default: the one a player takes]"
    ),
    click.option(
        "--strict", is_flag=True, help="Refuse a damaged recording, instead of transcribing what can be decoded."
    ),
    click.option("--raw", metavar="ENCODING,RATE,CHANNELS", callback=_raw, help="No headers, such as s16le,16000,1."),
)


def model_options(command: Command) -> Callable[..., object]:
    """Add the options that choose the model, its language and how it runs.

    The command gets them as `model`, a `ModelOptions`, and `options`, a `TranscriptionOptions`.
    """
    return _with_options(command, _MODEL_OPTIONS)


def recognition_options(command: Command) -> Callable[..., object]:
    """Add those of `model_options` and those that choose how transcripts are decoded and written, into `options`."""
    return _with_options(command, (*_MODEL_OPTIONS, *_DECODING_OPTIONS, *_DECODER_OPTIONS, *_AUDIO_OPTIONS))


def _with_options(
    command: Command, click_options: Sequence[Callable[[Callable[..., object]], Callable[..., object]]]
) -> Callable[..., object]:
    @functools.wraps(command)
    def with_objects(*arguments: Any, **values: Any) -> object:
        def taken(kind: type[AudioOptions | ModelOptions | TranscriptionOptions]) -> dict[str, Any]:
            # `audio` is an object, made of options of its own.
            names = {field.name for field in dataclasses.fields(kind)} - {"audio"}
            return {name: values.pop(name) for name in names & values.keys()}

        if len(values["languages"]) == 1:
            (values["language"],) = values["languages"]
            values["languages"] = ()
        try:
            model = ModelOptions(**taken(ModelOptions))
            audio = AudioOptions(**taken(AudioOptions))
            options = TranscriptionOptions(audio=audio, **taken(TranscriptionOptions))
        except ConfigError as error:
            raise click.UsageError(f"--{error}") from None
        return command(*arguments, model=model, options=options, **values)

    decorated: Callable[..., object] = with_objects
    for option in reversed(click_options):
        decorated = option(decorated)
    return decorated


def check_device(device: str) -> None:
    """Find out before any other work whether --device can be used.

    Raises:
        click.BadParameter: when it is unknown or not available.
    """
    from fun_asr.weights.precision import resolve_devices

    try:
        resolve_devices(device)
    except FunASRError as error:
        raise click.BadParameter(str(error), param_hint="--device") from None


def load_transcriber(model: ModelOptions, language: str | None) -> Transcriber:
    """Load the model; `language` is a code it is to know.

    Raises:
        click.BadParameter: when it does not know the language.
        FunASRError: as `fun_asr.load_model`.
    """
    from fun_asr.text.languages import language_in
    from fun_asr.transcriber import load

    transcriber = load(model)
    if language is not None and language_in(transcriber.languages, language) not in transcriber.languages:
        raise click.BadParameter(f"the model does not know {language!r}", param_hint="--language")
    describe_model(transcriber)
    return transcriber


def describe_model(transcriber: Transcriber) -> None:
    """Say on standard error what the model computes with, where --debug or --log_level debug asks for it."""
    info = transcriber.info
    parts = [f"{part} {kind}" for part, kind in info.arithmetic.items()]
    kernels = [f"{task} products: {name}" for task, name in info.kernels.items()]
    level = logging.INFO if debugging(click.get_current_context()) else logging.DEBUG
    say(f"{info.family} on {info.device}: {', '.join([*parts, *kernels])}", level, model=info.to_dict())


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """A machine that shuts down asks politely first: time enough to end as Ctrl-C does, with a report.

    What is raised then is `Terminated`.
    """

    def terminate(_number: int, _frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def one_field(path: str) -> bytes:
    """A path as one field of one line; a name is bytes that need not be UTF-8."""
    name = os.fsencode(path)
    for character, escape in ((b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r")):
        name = name.replace(character, escape)
    return name


def print_error(error: FunASRError) -> None:
    """Print one line on standard error."""
    facts = {"path": error.path} if isinstance(error, AudioDecodeError) else {}
    say(str(error), logging.ERROR, kind=type(error).__name__, **facts)


def print_warnings(transcript: Transcript) -> None:
    """Say on standard error what there is to say about a recording, a line each."""
    for warning in transcript.warnings:
        say(f"{transcript.path}: {warning}", logging.WARNING, path=transcript.path)


def without_standard_input(
    recordings: Iterable[str | Excerpt], names: dict[str, str], stack: contextlib.ExitStack
) -> Iterator[str | Excerpt]:
    """The recordings, with a file that holds standard input in the place of `-`.

    Arguments:
        recordings: paths, parts of recordings, or `-`.
        names: learns what that file is called on the command line.
        stack: removes the file when it is closed.
    """
    from fun_asr.inputs.discover import STANDARD_INPUT

    for path in recordings:
        if path == STANDARD_INPUT:
            path = os.path.join(stack.enter_context(tempfile.TemporaryDirectory(prefix="fun-asr-")), "standard-input")
            try:
                with open(path, "wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
            except OSError as error:
                # A full disk names no file.
                error.filename = error.filename or path
                raise
            names[path] = STANDARD_INPUT
        yield path


def renamed(error: FunASRError, names: dict[str, str]) -> FunASRError:
    """The error, naming standard input where its file is one of `without_standard_input`'s."""
    if isinstance(error, AudioDecodeError) and error.path in names:
        return AudioDecodeError("standard input", error.cause)
    return error
