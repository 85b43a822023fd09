"""`fun-asr format < TEXT`: punctuation, case and digits for bare text."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import cast

import click


@click.command("format", short_help="Punctuation, case and digits for bare text.")
@click.option("-m", "--model", "model_dir", type=click.Path(path_type=Path), help="Model directory. [default: bundled]")
@click.option("--itn/--no_itn", default=True, show_default=True, help="Numbers, dates and the like in digits.")
def format_text(model_dir: Path | None, itn: bool) -> None:
    """Read English text from standard input, one text a line, and write it with , . ? !, capitals and digits.

    A line that has punctuation keeps it, one that has capitals keeps them; so formatted text passes unchanged.
    """
    from fun_asr.errors import FunASRError
    from fun_asr.punctuation.punctuator import Punctuator
    from fun_asr.text.itn import normalize

    punctuator = Punctuator.load(model_dir)
    lines = _text_lines(cast(io.BufferedReader, sys.stdin.buffer))
    try:
        for line in lines:
            written = punctuator.punctuate_text(line.rstrip("\n"))
            click.echo(normalize(written) if itn else written)
    except UnicodeDecodeError as error:
        raise FunASRError(f"standard input: not UTF-8 text ({error.reason})") from None


def _text_lines(standard_input: io.BufferedReader) -> io.TextIOWrapper:
    """The lines, as they come, in the encoding of the byte order mark, which is no text."""
    from fun_asr.encodings import LONGEST_MARK, encoding_of

    mark, encoding = encoding_of(standard_input.peek(LONGEST_MARK))
    standard_input.read(mark)
    return io.TextIOWrapper(standard_input, encoding=encoding)
