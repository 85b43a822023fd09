"""Which recordings the paths of a command line stand for, and the files that their transcripts go to."""

from __future__ import annotations

import errno
import fnmatch
import glob
import itertools
import os
import shlex
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fun_asr.audio.media import may_hold_audio
from fun_asr.audio.names import folded, stem
from fun_asr.errors import AudioDecodeError
from fun_asr.text.encodings import is_text

__all__ = [
    "STANDARD_INPUT",
    "Inputs",
    "Search",
    "describe_left_out",
    "expanded",
    "find_recordings",
    "identity_of",
    "is_several",
    "output_names",
]

STANDARD_INPUT = "-"
LISTED = 6  # kinds of files that a message names
LIST_SUFFIXES = (".jsonl", ".json", ".scp")
"""Of files that `fun_asr.inputs.sources` reads as lists of recordings."""

JUNK_FOLDERS = frozenset({
    "$recycle.bin", "system volume information", "lost+found", "__macosx", "@eadir", "#recycle", "#snapshot",
    "node_modules",
})  # fmt: skip
"""Folders, in lower case, in which systems keep what nobody recorded."""


@dataclass(frozen=True)
class Search:
    """What is taken from a folder."""

    recursive: bool = True
    include: tuple[str, ...] = ()
    """Glob patterns, of which one must match; none lets everything through."""
    exclude: tuple[str, ...] = ()
    """Glob patterns, of which none may match a file or a folder."""

    def takes(self, place: str) -> bool:
        """Whether a file below the folder is wanted; a pattern is compared with its place there and with its name."""
        return (not self.include or _matches(place, self.include)) and not _matches(place, self.exclude)

    def enters(self, place: str) -> bool:
        """Whether a folder below the folder is searched."""
        name = os.path.basename(place)
        junk = name.startswith(".") or name.lower() in JUNK_FOLDERS
        return self.recursive and not junk and not _matches(place, self.exclude)


def _matches(place: str, patterns: tuple[str, ...]) -> bool:
    return any(
        fnmatch.fnmatchcase(place, pattern) or fnmatch.fnmatchcase(os.path.basename(place), pattern)
        for pattern in patterns
    )


@dataclass(frozen=True)
class Inputs:
    """What was found."""

    recordings: list[str]
    """Each once, in the order of the arguments; a folder's sorted by name."""
    failures: list[AudioDecodeError]
    """Folders that cannot be read or hold no recording, and files of text."""
    folder: str
    """The deepest folder that holds all arguments; the recordings' places below it are kept in the output."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Files below the folders that are no recordings: how many of each suffix, in lower case."""


def describe_left_out(left_out: Counter[str]) -> str | None:
    """One line for people on the files below folders that are no recordings; None where nothing was left out.

    Arguments:
        left_out: how many of each suffix.
    """
    total = left_out.total()
    if not total:
        return None
    kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in left_out.most_common(LISTED)]
    more = len(left_out) - LISTED
    listed = ", ".join(kinds) + (f" and {more} more kinds" if more > 0 else "")
    return f"{total} file{'s' * (total > 1)} left out that {'are' if total > 1 else 'is'} no recording: {listed}"


def find_recordings(arguments: Sequence[str], search: Search | None = None) -> Inputs:
    """Expand folders, recursively, to the audio and video files in them.

    Hidden files and folders are passed over, and what systems put beside recordings, as are pipes and devices. Links to
    folders are followed, each folder once.

    Arguments:
        arguments: files, which are taken as they are, folders, glob patterns that name no file, or `-` for standard
            input.
        search: what is taken from a folder; None takes everything below it.
    """
    search = search or Search()
    recordings: dict[str, str] = {}
    failures: list[AudioDecodeError] = []
    folders: list[str] = []
    left_out: Counter[str] = Counter()
    # Folders by device and inode, and a name: a pattern may follow links in a loop.
    places: set[tuple[object, str]] = set()
    for argument in (path for given in arguments for path in expanded(given)):
        absolute = os.path.abspath(argument)
        if argument == STANDARD_INPUT:
            recordings.setdefault(STANDARD_INPUT, STANDARD_INPUT)
        elif os.path.isdir(argument):
            folders.append(absolute)
            found, errors = _search(argument, search, left_out)
            failures += errors
            if not found and not errors:
                failures.append(AudioDecodeError(argument, "is a folder without audio or video files"))
            for path in found:
                place = (identity_of(os.path.dirname(path)), os.path.basename(path))
                if place not in places:
                    places.add(place)
                    recordings.setdefault(os.path.abspath(path), path)
        else:
            folders.append(os.path.dirname(absolute))
            place = (identity_of(os.path.dirname(absolute)), os.path.basename(absolute))
            if text := _of_no_use(argument):
                failures.append(text)
            elif place not in places:
                places.add(place)
                recordings.setdefault(absolute, argument)
    folder = os.path.commonpath(folders) if folders else os.getcwd()
    return Inputs(list(recordings.values()), failures, folder, left_out)


def expanded(argument: str) -> list[str]:
    """What a pattern that the shell left alone stands for: itself where it matches nothing."""
    if not _is_pattern(argument):
        return [argument]
    return [path for path in sorted(glob.glob(argument, recursive=True)) if not _in_loop(path)] or [argument]


def _is_pattern(argument: str) -> bool:
    # A file may itself have brackets in its name.
    return glob.has_magic(argument) and not os.path.lexists(argument)


def is_several(arguments: Sequence[str]) -> bool:
    """Whether arguments may stand for several recordings, however many are found: paths, a folder or a pattern."""
    return len(arguments) > 1 or os.path.isdir(arguments[0]) or _is_pattern(arguments[0])


def _of_no_use(path: str) -> AudioDecodeError | None:
    """What is wrong with a file that is text, such as a list of recordings or a transcript."""
    if stem(path) != path or not is_text(path):
        return None
    is_list = path.lower().endswith(LIST_SUFFIXES)
    command = f"fun-asr batch {'' if is_list else '- < '}{shlex.quote(path)}"
    return AudioDecodeError(path, f"is text, not a recording; a list of recordings is for batch: {command}")


def _in_loop(path: str) -> bool:
    """Whether links lead round and round, as a pattern follows them until the system gives up."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def identity_of(folder: str) -> object:
    """What is the same for all paths to a folder."""
    try:
        status = os.stat(folder)
    except OSError:
        return folder
    # Some file systems number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _search(folder: str, search: Search, left_out: Counter[str]) -> tuple[list[str], list[AudioDecodeError]]:
    found: list[str] = []
    errors: list[AudioDecodeError] = []
    entered = {identity_of(folder)}

    def note(error: OSError) -> None:
        errors.append(AudioDecodeError(error.filename, error.strerror or str(error)))

    for parent, children, names in os.walk(folder, onerror=note, followlinks=True):
        below = "" if parent == folder else os.path.relpath(parent, folder)
        # What is in the folder itself before what a link leads to: the shorter path is the one that people know.
        wanted = [name for name in children if search.enters(os.path.join(below, name))]
        children[:] = []
        for name in sorted(wanted, key=lambda name: (os.path.islink(os.path.join(parent, name)), name)):
            identity = identity_of(os.path.join(parent, name))
            if identity not in entered:
                entered.add(identity)
                children.append(name)
        children.sort()
        for name in sorted(names):
            if name.startswith(".") or not search.takes(os.path.join(below, name)):
                continue
            path = os.path.join(parent, name)
            if not _may_be_recording(path):
                continue
            if may_hold_audio(path):
                found.append(path)
            else:
                left_out[os.path.splitext(name)[1].lower()] += 1
    return found, errors


def _may_be_recording(path: str) -> bool:
    """False for pipes, sockets and devices, of which reading may never end; a dangling link is to be named."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def output_names(
    recordings: Iterable[str],
    folder: str,
    given: Mapping[str, str] | None = None,
    places: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The name of each recording's transcripts, below the output folder and without extension: never two alike.

    `talk.wav` becomes `talk`; beside a `talk.mp3` it becomes `talk.wav`, as that becomes `talk.mp3`; beside a
    `Talk.wav` one of the two is numbered.

    Arguments:
        recordings: paths, or `-`; different ones.
        folder: the recordings' places below it are kept.
        given: names, by absolute path, that earlier runs gave, whose recordings keep them and others leave them alone.
        places: paths after which outputs are called, where those are not the recordings' own.
    """
    given, instead = given or {}, places or {}
    names: dict[str, str] = {}
    full: dict[str, str] = {}
    for path in recordings:
        kept = None if path == STANDARD_INPUT else given.get(os.path.abspath(path))
        place = "stdin" if path == STANDARD_INPUT else _place(instead.get(path, path), folder)
        names[path], full[path] = (stem(place), place) if kept is None else (kept, kept)
    of_others = set(given) - {os.path.abspath(path) for path in names}
    taken = Counter(map(folded, (given[path] for path in of_others)))
    # A full name may in turn be the stem of another recording, which then gives way.
    while ambiguous := [path for path in _ambiguous(names, taken) if names[path] != full[path]]:
        names.update((path, full[path]) for path in ambiguous)
    kept_names = {folded(names[path]) for path in names if os.path.abspath(path) in given}
    used = {*taken, *kept_names}
    for path in names:
        if os.path.abspath(path) not in given:
            numbered = (names[path] if number == 1 else f"{names[path]}.{number}" for number in itertools.count(1))
            names[path] = next(name for name in numbered if folded(name) not in used)
            used.add(folded(names[path]))
    return names


def _place(path: str, folder: str) -> str:
    place = os.path.relpath(os.path.abspath(path), folder)
    # A list may name what is not below the folder that the first run chose; the output stays inside its own.
    return os.path.join(*(part for part in place.split(os.sep) if part != os.pardir))


def _ambiguous(names: dict[str, str], taken: Mapping[str, int]) -> Iterator[str]:
    counts = Counter(map(folded, names.values()))
    return (path for path, name in names.items() if counts[folded(name)] + taken.get(folded(name), 0) > 1)
