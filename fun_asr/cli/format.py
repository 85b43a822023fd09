"""`fun-asr format < TEXT`: punctuation and case for bare text."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click


@click.command("format", short_help="Restore punctuation and case of text.")
@click.option("-m", "--model", "model_dir", type=click.Path(path_type=Path), help="Model directory. [default: bundled]")
def format_text(model_dir: Path | None) -> None:
    """Read English text from standard input, one text a line, and write it with , . ? ! and capitals.

    A line that has punctuation keeps it, one that has capitals keeps them; so formatted text passes unchanged.
    """
    from fun_asr.errors import FunASRError
    from fun_asr.text.punctuation import Punctuator

    punctuator = Punctuator.load(model_dir)
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8")
    try:
        for line in lines:
            click.echo(punctuator.punctuate_text(line.rstrip("\n")))
    except UnicodeDecodeError as error:
        raise FunASRError(f"standard input: not UTF-8 text ({error.reason})") from None
