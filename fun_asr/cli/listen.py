"""`fun-asr listen`: what is said, while it is said."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from fun_asr.cli.common import check_device, load_transcriber, recognition_options
from fun_asr.cli.help import GroupedCommand
from fun_asr.cli.log import log_options
from fun_asr.cli.streams import STANDARD_INPUT_NAME, is_closed
from fun_asr.errors import AudioDecodeError, FunASRError

if TYPE_CHECKING:
    import av.container
    import numpy as np
    import numpy.typing as npt

    from fun_asr.options import ModelOptions, TranscriptionOptions
    from fun_asr.streaming.events import StreamEvent
    from fun_asr.streaming.stream import Stream
    from fun_asr.transcript import Transcript

    Samples = npt.NDArray[np.float32]
    Sound = Iterator[Samples]

MICROPHONE_RATE = 16_000
BLOCK = 0.02  # seconds of the microphone's sound that come at once
READ = 3200  # bytes of standard input at once at most: 0.1 s of 16-bit sound at 16 kHz
MOST_BLOCKS = 100  # of it that wait
FORMATS = ("txt", "srt", "json")


@click.command(
    cls=GroupedCommand,
    short_help="Write what is said, while it is said.",
    examples=(
        ("fun-asr listen", "what the microphone hears"),
        ("fun-asr listen -l en -f srt -o talk.srt", "English, with subtitles at the end"),
        ("ffmpeg -i URL -f wav - | fun-asr listen -", "of a stream on the network, as it comes"),
    ),
)
@click.argument("source", metavar="[-]", required=False)
@recognition_options
@click.option("-f", "--output_format", type=click.Choice(FORMATS), help="Of the whole, once it is over. [default: txt]")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File for the whole.")
@click.option("--microphone", metavar="NAME|NUMBER", help="Which microphone. [default: the system's]")
@click.option(
    "--silence", type=click.FloatRange(min=0.1), default=0.6, show_default=True, help="Seconds that end an utterance."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.0),
    default=0.4,
    show_default=True,
    help="Seconds of sound between two looks at what is being said; 0 shows whole utterances alone.",
)
@log_options
def listen(
    source: str | None,
    model: ModelOptions,
    options: TranscriptionOptions,
    output_format: str | None,
    output: Path | None,
    microphone: str | None,
    silence: float,
    interval: float,
) -> None:
    """Write what is said into the microphone (extra `mic`), or what comes from standard input: -.

    \b
    Standard input is WAV, or what --raw says, such as --raw s16le,16000,1.
    On a terminal the last line is rewritten while somebody speaks; finished lines stay. Elsewhere every event is a
    JSON object on a line of its own, and with -f the whole is written once it is over. Ctrl-C ends it, and what was
    heard until then is written.

    Exit status: 0 the sound has ended or Ctrl-C, 1 there is no sound, 2 wrong usage.
    """
    from fun_asr.audio.options import AudioOptions
    from fun_asr.streaming.live import StreamOptions

    if source not in (None, "-"):
        raise click.UsageError("give - for standard input, or nothing for the microphone; transcribe reads files")
    if options.clip_timestamps or dataclasses.replace(options.audio, raw=None) != AudioOptions():
        raise click.UsageError("--clip_timestamps, --channels, --track and --strict are of recordings: transcribe")
    if source is None and options.audio.raw is not None:
        raise click.UsageError("--raw is of standard input: -")
    check_device(model.device)
    with contextlib.ExitStack() as stack:
        # Before the model is loaded, so that a missing microphone shows at once.
        rate, sound = _microphone(microphone, stack) if source is None else _standard_input(options)
        transcriber = load_transcriber(model, options.language)
        stream = transcriber.run_stream(options, rate, StreamOptions(silence=silence, interval=interval))
        show: Callable[[StreamEvent], None]
        terminal = sys.stdout.isatty()
        show = _Screen().show if terminal else _as_json if output_format is None or output is not None else _nothing
        with contextlib.suppress(KeyboardInterrupt):
            for samples in sound:
                for event in stream.feed(samples):
                    show(event)
        _finish(stream, show)
    if output is not None or (output_format is not None and not terminal):
        _write(stream.transcript, output_format or "txt", output)


for parameter in listen.params:
    # Of recordings, and refused.
    if isinstance(parameter, click.Option) and parameter.name in ("clip_timestamps", "channels", "track", "strict"):
        parameter.hidden = True


def _finish(stream: Stream, show: Callable[[StreamEvent], None]) -> None:
    for event in stream.finish():
        show(event)


def _write(transcript: Transcript, output_format: str, output: Path | None) -> None:
    from fun_asr.files import write_atomically
    from fun_asr.transcript.cues import SubtitleOptions
    from fun_asr.writers.formats import make_writers

    ((_, writer),) = make_writers([output_format], SubtitleOptions()).items()
    content = writer.encode(transcript)
    if output is None:
        click.echo(content, nl=False)
        return
    try:
        write_atomically(output, content)
    except OSError as error:
        raise FunASRError(f"{output}: cannot be written to: {error.strerror or error}") from None


def _nothing(event: StreamEvent) -> None:
    pass


def _as_json(event: StreamEvent) -> None:
    click.echo(json.dumps(_entry(event), ensure_ascii=False))


def _entry(event: StreamEvent) -> dict[str, Any]:
    from fun_asr.streaming.events import Committed, Partial

    if isinstance(event, Partial):
        return {
            "event": "partial",
            "utterance": event.utterance,
            "start": round(event.start, 3),
            "committed": event.committed,
            "tentative": event.tentative,
            "language": event.language,
        }
    if isinstance(event, Committed):
        words = [word.to_dict() for word in event.words]
        return {"event": "committed", "utterance": event.utterance, "words": words, "language": event.language}
    return {
        "event": "final",
        "utterance": event.utterance,
        "start": round(event.start, 3),
        "end": round(event.end, 3),
        "text": event.text,
        "segments": [segment.to_dict() for segment in event.segments],
    }


class _Screen:
    """A terminal whose last line is what is being said."""

    def show(self, event: StreamEvent) -> None:
        """Rewrite the last line, and go to the next one where it is final."""
        from fun_asr.streaming.events import Final, Partial

        if isinstance(event, Final):
            click.echo(f"\r\x1b[K{event.text}")
        elif isinstance(event, Partial):
            width = shutil.get_terminal_size().columns - 1
            # Its end, on one line: only there can it be rewritten.
            shown = _end(event.text, width)
            rest = min(len(event.tentative), len(shown))
            kept = shown[: len(shown) - rest]
            click.echo(f"\r\x1b[K{kept}\x1b[2m{shown[len(kept) :]}\x1b[0m", nl=False)
            sys.stdout.flush()


def _end(text: str, width: int) -> str:
    """The end of a text that fits into a line; East Asian letters are two columns wide."""
    from unicodedata import east_asian_width

    columns = 0
    for place in range(len(text) - 1, -1, -1):
        columns += 2 if east_asian_width(text[place]) in "WF" else 1
        if columns > width:
            return text[place + 1 :]
    return text


def _microphone(name: str | None, stack: contextlib.ExitStack) -> tuple[int, Sound]:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise FunASRError("sounddevice is missing: pip install .[mic]") from None
    except OSError as error:
        raise FunASRError(f"PortAudio is missing ({error}); on Debian: apt install libportaudio2") from None
    blocks: queue.Queue[Samples | Exception | None] = queue.Queue()

    def take(data: Any, *_: object) -> None:
        blocks.put(data[:, 0].copy())

    device = int(name) if name is not None and name.isdecimal() else name
    try:
        opened = sounddevice.InputStream(
            samplerate=MICROPHONE_RATE,
            channels=1,
            dtype="float32",
            device=device,
            blocksize=round(BLOCK * MICROPHONE_RATE),
            callback=take,
        )
        stack.enter_context(opened)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise FunASRError(f"the microphone cannot be opened: {error}") from None
    return MICROPHONE_RATE, _of_queue(blocks)


def _of_queue(blocks: queue.Queue[Samples | Exception | None]) -> Sound:
    import numpy as np

    while True:
        first = blocks.get()
        if first is None or isinstance(first, Exception):
            break
        parts = [first]
        # What came while the last piece was recognised is heard at once.
        while not blocks.empty():
            following = blocks.get()
            if following is None or isinstance(following, Exception):
                blocks.put(following)
                break
            parts.append(following)
        yield np.concatenate(parts)
    if first is not None:
        raise first


class _Arriving:
    """Standard input as far as it has come, whatever size is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            self._descriptor: int | None = file.fileno()
        except (OSError, ValueError):
            self._descriptor = None

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; none at the end."""
        # Not through the buffer: a thread that waits in there stops the interpreter from ending.
        return self._file.read(size) if self._descriptor is None else os.read(self._descriptor, size)


def _standard_input(options: TranscriptionOptions) -> tuple[int, Sound]:
    import av

    if is_closed(sys.stdin):
        raise AudioDecodeError(STANDARD_INPUT_NAME, "is closed")
    raw = options.audio.raw
    try:
        container = av.open(
            _Arriving(sys.stdin.buffer),
            format=None if raw is None else raw.encoding,
            options={} if raw is None else {"sample_rate": str(raw.rate), "ch_layout": f"{raw.channels}C"},
            buffer_size=READ,
        )
        if not container.streams.audio:
            raise AudioDecodeError(STANDARD_INPUT_NAME, "has no audio")
        rate = container.streams.audio[0].rate
    except av.FFmpegError as error:
        cause = "is no audio that can be read as it comes; --raw s16le,16000,1 says what samples without headers are"
        raise AudioDecodeError(STANDARD_INPUT_NAME, f"{cause} ({error.strerror or error})") from None
    blocks: queue.Queue[Samples | Exception | None] = queue.Queue(MOST_BLOCKS)
    # Ctrl-C would not be heard inside FFmpeg.
    threading.Thread(target=_decode, args=(container, blocks), name="fun-asr-reader", daemon=True).start()
    return rate, _of_queue(blocks)


def _decode(container: av.container.InputContainer, blocks: queue.Queue[Samples | Exception | None]) -> None:
    import av

    resampler = av.AudioResampler(format="flt", layout="mono")
    end: Exception | None = None
    try:
        for frame in container.decode(audio=0):
            for mono in resampler.resample(frame):
                blocks.put(mono.to_ndarray()[0])
    except av.FFmpegError as error:
        end = AudioDecodeError(STANDARD_INPUT_NAME, f"cannot be decoded: {error.strerror or error}")
    blocks.put(end)
