"""What the commands say beside their results: on standard error, and in a file of JSON lines."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fun_asr.cli.common import Command, debugging, make_writable
from fun_asr.cli.say import LOGGER, StandardError

__all__ = ["log_options"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _JSONLines(logging.Handler):
    """A line each of a file, which other runs may write to at the same time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def emit(self, entry: logging.LogRecord) -> None:
        line = {
            "time": datetime.fromtimestamp(entry.created, UTC).isoformat(timespec="milliseconds"),
            "level": entry.levelname.lower(),
            "message": entry.getMessage(),
            **getattr(entry, "facts", {}),
        }
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        super().close()


@contextlib.contextmanager
def _logging_to(level: int, quiet: bool, file: Path | None) -> Iterator[None]:
    handlers: list[logging.Handler] = [StandardError(max(level, logging.ERROR if quiet else level))]
    if file is not None:
        make_writable(file.parent)
        handlers.append(_JSONLines(file))
        handlers[-1].setLevel(level)
    before = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    LOGGER.handlers, LOGGER.propagate = handlers, False
    LOGGER.setLevel(level)
    child = LOGGER.getChild("file")
    child.handlers, child.propagate = handlers[1:], False
    try:
        yield
    finally:
        LOGGER.handlers, LOGGER.level, LOGGER.propagate = before
        child.handlers = []
        for handler in handlers:
            handler.close()


def log_options(command: Command) -> Callable[..., object]:
    """Add the options of what is said beside results, which hold while the command runs."""

    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on standard error.")
    @click.option(
        "--log_level",
        type=click.Choice(list(_LEVELS)),
        default="info",
        show_default=True,
        help="Least of what is said on standard error and in --log_file.",
    )
    @click.option(
        "--log_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Add to a file what is said, and each recording that is done: JSON lines with times.",
    )
    @functools.wraps(command)
    def with_log(*arguments: Any, quiet: bool, log_level: str, log_file: Path | None, **options: Any) -> object:
        level = logging.DEBUG if debugging(click.get_current_context()) else _LEVELS[log_level]
        with _logging_to(level, quiet, log_file):
            return command(*arguments, **options)

    return with_log
