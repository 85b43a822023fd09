"""The errors that Fun-ASR raises on purpose; each message names the file and says what to do about it."""

from __future__ import annotations

import os

__all__ = [
    "AudioDecodeError",
    "CheckpointError",
    "ConfigError",
    "FunASRError",
    "ManifestError",
    "ScoringError",
    "Terminated",
]


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a user's Ctrl-C is, of a machine that shuts down or a scheduler whose time is up."""


class FunASRError(Exception):
    """A failure that the user can act upon; its message is one line that starts with the file at fault."""


class AudioDecodeError(FunASRError):
    """A recording is missing, unreadable, empty, damaged, or not audio at all.

    Arguments:
        path: the recording.
        cause: what is wrong and, where it is not plain, what to do about it. Line breaks become spaces.
    """

    def __init__(self, path: str | os.PathLike[str], cause: str) -> None:
        self.path = os.fspath(path)
        self.cause = " ".join(cause.split())
        # Exactly the constructor's arguments, so that the error survives pickling between worker processes.
        super().__init__(self.path, self.cause)

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}"


class CheckpointError(FunASRError):
    """A model file is missing, damaged, or does not fit the model's configuration."""


class ConfigError(FunASRError, ValueError):
    """A configuration has an unknown key, lacks a required one, or holds a value out of range."""


class ManifestError(FunASRError):
    """A list of recordings or references has a line that cannot be used."""


class ScoringError(FunASRError):
    """References and hypotheses cannot be scored against each other.

    Arguments:
        *problems: what is wrong, one line each that starts with the file at fault.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)
