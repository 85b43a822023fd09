"""`fun-asr format < TEXT`: punctuation, case and digits for bare text."""

from __future__ import annotations

import io
import sys
from pathlib import Path

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
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8")
    try:
        for line in lines:
            written = punctuator.punctuate_text(line.rstrip("\n"))
            click.echo(inverse_normalize(written) if itn else written)
    except UnicodeDecodeError as error:
        raise FunASRError(f"standard input: not UTF-8 text ({error.reason})") from None
