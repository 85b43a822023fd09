"""Which recordings the paths of a command line stand for, and the files that their transcripts go to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fun_asr.errors import AudioDecodeError

__all__ = ["AUDIO_SUFFIXES", "STANDARD_INPUT", "Inputs", "find_recordings", "output_paths"]

STANDARD_INPUT = "-"

AUDIO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".caf", ".dts",
    ".eac3", ".flac", ".flv", ".gsm", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4",
    ".mpc", ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rm", ".snd", ".sph", ".spx", ".tak",
    ".tta", ".ts", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wv",
})  # fmt: skip
"""Suffixes, in lower case, of the files that a folder is searched for; a file named itself may have any."""


@dataclass(frozen=True)
class Inputs:
    """What was found."""

    recordings: list[str]
    """Each once, in the order of the arguments; a folder's sorted by name."""
    failures: list[AudioDecodeError]
    """Folders that cannot be read or hold no recording."""
    folder: str
    """The deepest folder that holds all arguments; the recordings' places below it are kept in the output."""


def find_recordings(arguments: Sequence[str]) -> Inputs:
    """Expand folders, recursively, to the audio and video files in them; hidden files and folders are passed over.

    Arguments:
        arguments: files, which are taken as they are, folders, or `-` for standard input.
    """
    recordings: dict[str, str] = {}
    failures: list[AudioDecodeError] = []
    folders: list[str] = []
    for argument in arguments:
        absolute = os.path.abspath(argument)
        if argument == STANDARD_INPUT:
            recordings.setdefault(STANDARD_INPUT, STANDARD_INPUT)
        elif os.path.isdir(argument):
            folders.append(absolute)
            found, errors = _search(argument)
            failures += errors
            if not found and not errors:
                failures.append(AudioDecodeError(argument, "is a folder without audio or video files"))
            for path in found:
                recordings.setdefault(os.path.abspath(path), path)
        else:
            folders.append(os.path.dirname(absolute))
            recordings.setdefault(absolute, argument)
    folder = os.path.commonpath(folders) if folders else os.getcwd()
    return Inputs(list(recordings.values()), failures, folder)


def _search(folder: str) -> tuple[list[str], list[AudioDecodeError]]:
    found: list[str] = []
    errors: list[AudioDecodeError] = []

    def note(error: OSError) -> None:
        errors.append(AudioDecodeError(error.filename, error.strerror or str(error)))

    for parent, children, names in os.walk(folder, onerror=note):
        children[:] = sorted(name for name in children if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                found.append(os.path.join(parent, name))
    return found, errors


def output_paths(inputs: Inputs, output_dir: Path, extension: str) -> dict[str, Path]:
    """Where each recording's transcript goes: never two to one file.

    `talk.wav` becomes `talk.txt`; beside a `talk.mp3` it becomes `talk.wav.txt`, as that becomes `talk.mp3.txt`.

    Arguments:
        inputs: the recordings; their folders below `inputs.folder` are kept.
        output_dir: the folder for all transcripts.
        extension: of the transcripts, with its dot.
    """
    places = {
        path: "stdin" if path == STANDARD_INPUT else os.path.relpath(os.path.abspath(path), inputs.folder)
        for path in inputs.recordings
    }
    names = {path: os.path.splitext(place)[0] for path, place in places.items()}
    # A full name may in turn be the stem of another recording, which then gives way.
    while ambiguous := [path for path in _ambiguous(names) if names[path] != places[path]]:
        names.update((path, places[path]) for path in ambiguous)
    return {path: output_dir / (name + extension) for path, name in names.items()}


def _ambiguous(names: dict[str, str]) -> Iterable[str]:
    # Without case: some file systems take Talk.txt and talk.txt for one file.
    counts = Counter(name.casefold() for name in names.values())
    return (path for path, name in names.items() if counts[name.casefold()] > 1)
