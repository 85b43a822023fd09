"""The options that say what is written for a recording, shared by the commands that write transcripts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fun_asr.cli.common import Command
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
        show_default="txt",
        help="txt, json, jsonl, srt, vtt, tsv, ctm, stm, TextGrid or all; several with commas or repeated.",
    ),
    click.option("--max_line_width", type=int, help="Columns of a subtitle's line. [default: 42, in 2 lines]"),
    click.option("--max_line_count", type=int, help="Lines of a subtitle; needs --max_line_width."),
    click.option("--max_words_per_line", type=int, help="Words of a subtitle, instead of --max_line_width."),
    click.option("--highlight_words", is_flag=True, help="Underline each word of a subtitle while it is spoken."),
)


def output_options(command: Command) -> Callable[..., object]:
    """Add the options of formats and subtitles; the command gets them as `writers`, by format."""

    @functools.wraps(command)
    def with_writers(
        *arguments: Any,
        formats: tuple[str, ...],
        max_line_width: int | None,
        max_line_count: int | None,
        max_words_per_line: int | None,
        highlight_words: bool,
        **options: Any,
    ) -> object:
        writers = _writers(
            formats,
            max_line_width=max_line_width,
            max_line_count=max_line_count,
            max_words_per_line=max_words_per_line,
            highlight_words=highlight_words,
        )
        return command(*arguments, writers=writers, **options)

    decorated: Callable[..., object] = with_writers
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _writers(formats: tuple[str, ...], **subtitle_options: Any) -> dict[str, Writer]:
    from fun_asr.writers.formats import SUBTITLES, make_writers, parse_formats
    from fun_asr.writers.subtitles import SubtitleOptions

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
    return make_writers(names, subtitles)
