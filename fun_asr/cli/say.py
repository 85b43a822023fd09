"""One line on standard error, and in the log file where there is one."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

import click

__all__ = ["LOGGER", "StandardError", "informs", "record", "say"]

LOGGER = logging.getLogger("fun_asr.cli")
"""Whose lines go to standard error too; those of its child `file` go to the file alone."""


class StandardError(logging.Handler):
    """A line each, beside a bar that may be there."""

    def emit(self, entry: logging.LogRecord) -> None:
        """As `logging.Handler.emit`."""
        kind = f"{entry.levelname.lower()}: " if entry.levelno >= logging.WARNING else ""
        # Without a bar there is no need to import what draws them.
        tqdm = sys.modules.get("tqdm")
        with contextlib.nullcontext() if tqdm is None else tqdm.tqdm.external_write_mode(file=sys.stderr):
            click.echo(f"fun-asr: {kind}{entry.getMessage()}", err=True)


def say(message: str, level: int = logging.INFO, **facts: Any) -> None:
    """Say something on standard error, in one line, and in the log file.

    Arguments:
        message: without the program's name.
        level: logging's.
        facts: what the log file holds beside the message; JSON's types.
    """
    entry = LOGGER.makeRecord(
        LOGGER.name, level, "", 0, " ".join(message.splitlines()), (), None, extra={"facts": facts}
    )
    if LOGGER.handlers:
        if LOGGER.isEnabledFor(level):
            LOGGER.handle(entry)
    elif level >= logging.INFO:
        # A command without options of logging.
        StandardError().emit(entry)


def record(message: str, **facts: Any) -> None:
    """Note something in the log file alone.

    Arguments:
        message: the same for all of its kind.
        facts: what the line holds beside time, level and message; JSON's types.
    """
    file = LOGGER.getChild("file")
    if file.handlers:
        file.info(message, extra={"facts": facts})


def informs() -> bool:
    """Whether standard error is to have what is neither a warning nor an error."""
    shown = [handler for handler in LOGGER.handlers if isinstance(handler, StandardError)]
    return not shown or shown[0].level <= logging.INFO
