"""The options that say what is written for a recording, shared by the commands that write transcripts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

from fun_asr.cli.common import Command
from fun_asr.cli.help import complete_formats
from fun_asr.errors import ConfigError

if TYPE_CHECKING:
    from fun_asr.writers.base import Writer

_OPTIONS = (
    click.option(
        "-f",
        "--output_format",
        "formats",
        multiple=True,
        default=("txt",),
        shell_complete=complete_formats,
        help="txt, json, jsonl, srt, vtt, tsv, ctm, stm, TextGrid or all; several with commas or repeated. "
        "[default: txt]",
    ),
    click.option(
        "--json_style",
        type=click.Choice(["fun-asr", "whisper"]),
        default="fun-asr",
        show_default="fun_asr",
        help="Whose keys -f json has.",
    ),
)

# Each is called like the field of `SubtitleOptions` that it sets.
_SUBTITLE_OPTIONS = (
    click.option(
        "--max_line_width", type=int, help="Columns of a subtitle's line; wide characters take two. [default: 42]"
    ),
    click.option("--max_line_count", type=int, default=2, show_default=True, help="Lines of a subtitle."),
    click.option("--max_words_per_line", type=int, help="Words of a subtitle, instead of --max_line_width."),
    click.option("--highlight_words", is_flag=True, help="Underline each word of a subtitle while it is spoken."),
    click.option("--max_cue_seconds", type=float, default=7.0, show_default=True, help="Longest a subtitle is shown."),
    click.option(
        "--min_cue_seconds",
        type=float,
        default=1.0,
        show_default=True,
        help="Shortest a subtitle is shown, where the next one leaves room.",
    ),
    click.option(
        "--max_reading_speed",
        type=float,
        default=21.0,
        show_default=True,
        help="Characters a second of a subtitle, where times allow it.",
    ),
    click.option(
        "--max_pause_seconds", type=float, default=1.0, show_default=True, help="Longest pause within a subtitle."
    ),
)


def output_options(command: Command) -> Callable[..., object]:
    """Add the options of formats and subtitles; the command gets them as `writers`, by format."""

    @functools.wraps(command)
    def with_writers(
        *arguments: Any, formats: tuple[str, ...], json_style: Literal["fun-asr", "whisper"], **options: Any
    ) -> object:
        from fun_asr.transcript.cues import SubtitleOptions

        subtitles = {field.name: options.pop(field.name) for field in dataclasses.fields(SubtitleOptions)}
        return command(*arguments, writers=_writers(formats, json_style, subtitles), **options)

    decorated: Callable[..., object] = with_writers
    for option in reversed((*_OPTIONS, *_SUBTITLE_OPTIONS)):
        decorated = option(decorated)
    return decorated


def _writers(
    formats: tuple[str, ...], json_style: Literal["fun-asr", "whisper"], subtitle_options: dict[str, Any]
) -> dict[str, Writer]:
    from fun_asr.transcript.cues import SubtitleOptions
    from fun_asr.writers.formats import SUBTITLES, make_writers, parse_formats

    try:
        names = parse_formats(formats)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--output_format") from None
    try:
        subtitles = SubtitleOptions(**subtitle_options)
    except ConfigError as error:
        raise click.UsageError(f"--{error}") from None
    if subtitles != SubtitleOptions() and not set(names) & set(SUBTITLES):
        raise click.UsageError(f"options of subtitles need -f {' or '.join(SUBTITLES)}")
    if json_style != "fun-asr" and "json" not in names:
        raise click.UsageError("--json_style needs -f json")
    return make_writers(names, subtitles, json_style)
