"""The names of the output formats and their writers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fun_asr.errors import ConfigError
from fun_asr.writers.annotations import CTMWriter, STMWriter, TextGridWriter
from fun_asr.writers.base import JSONLWriter, JSONWriter, TextWriter, TSVWriter, Writer
from fun_asr.writers.subtitles import SRTWriter, SubtitleOptions, VTTWriter
from fun_asr.writers.whisper import WhisperJSONWriter

__all__ = ["OUTPUT_FORMATS", "SUBTITLES", "make_writers", "parse_formats"]

OUTPUT_FORMATS = ("txt", "json", "jsonl", "srt", "vtt", "tsv", "ctm", "stm", "TextGrid")
SUBTITLES = ("srt", "vtt")


def parse_formats(values: Iterable[str]) -> tuple[str, ...]:
    """The formats of an option given several times or with commas, each once; `all` is every format.

    Raises:
        ConfigError: for an unknown format, or none.
    """
    by_name = {name.lower(): name for name in OUTPUT_FORMATS}
    chosen: dict[str, None] = {}
    for value in (part.strip().lower() for text in values for part in text.split(",")):
        if value == "all":
            chosen.update(dict.fromkeys(OUTPUT_FORMATS))
        elif value in by_name:
            chosen[by_name[value]] = None
        else:
            raise ConfigError(f"{value!r} is not one of {', '.join(OUTPUT_FORMATS)}, all")
    return tuple(chosen)


def make_writers(
    formats: Iterable[str], subtitles: SubtitleOptions, json_style: Literal["fun-asr", "whisper"] = "fun-asr"
) -> dict[str, Writer]:
    """Writers by name, in the order asked for.

    Arguments:
        formats: of `OUTPUT_FORMATS`.
        subtitles: how srt and vtt are cut.
        json_style: whose keys json has.
    """
    writers: dict[str, Writer] = {
        "txt": TextWriter(),
        "json": WhisperJSONWriter() if json_style == "whisper" else JSONWriter(),
        "jsonl": JSONLWriter(),
        "srt": SRTWriter(subtitles),
        "vtt": VTTWriter(subtitles),
        "tsv": TSVWriter(),
        "ctm": CTMWriter(),
        "stm": STMWriter(),
        "TextGrid": TextGridWriter(),
    }
    return {name: writers[name] for name in formats}
