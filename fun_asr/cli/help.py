"""--help of commands with many options: in groups, and with examples; and what the shell completes of their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = ["GroupedCommand", "complete_files", "complete_formats", "complete_languages"]

_GROUPS = {
    "Model": ("directory", "languages", "device", "compute_type", "aligner", "batch_size", "threads"),
    "Recognition": (
        "decoding", "beam_size", "task", "initial_prompt", "hotwords", "temperature_fallback", "word_times",
        "punctuation", "itn",
    ),
    "Recordings": (
        "clip_timestamps", "channels", "track", "strict", "raw", "recursive", "include", "exclude", "check_files",
    ),
    "Live": ("microphone", "silence", "interval"),
    "Server": ("host", "port", "api_key", "max_upload", "max_requests", "max_streams", "request_timeout"),
    "Output": ("output_dir", "formats", "json_style", "verbose", "output_format", "output"),
    "Subtitles": (
        "max_line_width", "max_line_count", "max_words_per_line", "highlight_words", "max_cue_seconds",
        "min_cue_seconds", "max_reading_speed", "max_pause_seconds",
    ),
    "Scores": ("normalizer", "spoken", "by", "as_json", "html"),
    "Running": (
        "mode", "workers", "fail_fast", "max_failures", "timeout", "shard", "dry_run", "engine", "ray_address",
    ),
    "Progress and messages": ("quiet", "log_level", "log_file", "status", "report", "debug", "help"),
}  # fmt: skip
"""By heading, the names of the parameters below it."""


class GroupedCommand(click.Command):
    """A command whose --help shows its options under headings, and examples after them.

    Arguments:
        examples: command lines, each with what it does.
    """

    def __init__(self, *arguments: Any, examples: Sequence[tuple[str, str]] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings; those that have none come last, as "Options"."""
        left: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if row is not None:
                name = "help" if "--help" in parameter.opts else parameter.name or ""
                left.setdefault(name, []).append(row)
        for heading, names in _GROUPS.items():
            rows = [row for name in names for row in left.pop(name, ())]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
        if left:
            with formatter.section("Options"):
                formatter.write_dl([row for rows in left.values() for row in rows])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for line, meaning in self.examples:
                    # Never wrapped: it is there to be copied.
                    formatter.write(
                        f"{'':{formatter.current_indent}}{line}\n{'':{formatter.current_indent + 4}}{meaning}\n"
                    )
        super().format_epilog(ctx, formatter)


def complete_languages(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes of Whisper's languages with their names, of several the last one."""
    from fun_asr.text.languages import LANGUAGE_NAMES

    names = {"auto": "detected", **LANGUAGE_NAMES}
    before, comma, last = incomplete.rpartition(",")
    return [
        CompletionItem(f"{before}{comma}{code}", help=name)
        for code, name in names.items()
        if code.startswith(last.lower())
    ]


def complete_formats(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Formats, of several the last one, without those that are there."""
    from fun_asr.writers.formats import OUTPUT_FORMATS

    before, comma, last = incomplete.rpartition(",")
    there = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in (*OUTPUT_FORMATS, "all")
        if name.lower().startswith(last.lower()) and name not in there
    ]


def complete_files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files and folders, which the shell finds; for what is no path for click, since it may be - or a list."""
    return [CompletionItem(incomplete, type="file")]
