"""`fun-asr format < TEXT`: punctuation, case and digits for bare text."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
    from fun_asr.text.itn import inverse_normalize

    punctuator = Punctuator.load(model_dir)
    lines = _text_lines(sys.stdin.buffer)
    try:
        for line in lines:
            written = punctuator.punctuate_text(line)
            click.echo(inverse_normalize(written) if itn else written)
    except UnicodeDecodeError as error:
        raise FunASRError(f"standard input: not UTF-8 text ({error.reason})") from None


def _text_lines(standard_input: BinaryIO) -> Iterator[str]:
    """The lines, as they come; a byte order mark is no text and may say UTF-16.

    Raises:
        UnicodeDecodeError: as the line is come to.
    """
    from fun_asr.text.encodings import decoded, encoding_of

    first = standard_input.readline()
    if encoding_of(first)[1] != "utf-8":
        yield from decoded(first + standard_input.read()).splitlines()
        return
    yield from (decoded(line).rstrip("\r\n") for line in itertools.chain([first] if first else [], standard_input))
