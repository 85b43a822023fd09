"""What recordings are called: their paths without the suffix of a medium, as short as tells them apart."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from fun_asr.audio.media import AUDIO_SUFFIXES

__all__ = ["as_field", "folded", "short_names", "stem"]

# Samples without a header: a folder is not searched for them, but they may be named.
_RAW_SUFFIXES = frozenset({".pcm", ".raw"})


def stem(path: str) -> str:
    """A path without the suffix of a medium; `1.1 Lesson name` has none."""
    root, suffix = os.path.splitext(path)
    return root if suffix.lower() in AUDIO_SUFFIXES | _RAW_SUFFIXES else path


def as_field(name: str) -> str:
    """A name as one field of a line, which a space would end."""
    return "_".join(name.split()) or "_"


def folded(name: str) -> str:
    """Equal for names that some file system takes for one: without case, composed accents or not."""
    return unicodedata.normalize("NFC", name).casefold()


def short_names(paths: Iterable[str]) -> Mapping[str, str]:
    """What each recording is called among the others: the end of its path, no longer than makes it the only one.

    `talk.wav` is `talk`; beside another folder's `talk.wav` they are `x/talk` and `y/talk`, and beside a `talk.mp3` in
    the same folder `talk.wav` and `talk.mp3`. As a field of a line each is still the only one.

    Arguments:
        paths: different recordings.
    """
    places = {path: os.path.abspath(path).replace(os.sep, "/").strip("/") for path in paths}
    stems = Counter(as_field(stem(place)) for place in places.values())
    full = {path: stem(place) if stems[as_field(stem(place))] == 1 else place for path, place in places.items()}
    names: dict[str, str] = {}
    left = {path: name.split("/") for path, name in full.items()}
    length = 1
    while left:
        ends = {path: "/".join(parts[-length:]) for path, parts in left.items()}
        counts = Counter(map(as_field, ends.values()))
        for path, end in ends.items():
            if counts[as_field(end)] == 1 or length >= len(left[path]):
                names[path] = end
                del left[path]
        length += 1
    return _numbered({path: names[path] for path in places})


def _numbered(names: Mapping[str, str]) -> Mapping[str, str]:
    """The names, with a number behind those that are still alike: `my talk.wav` and `my_talk.wav` as fields."""
    used: set[str] = set()
    found = {}
    for path, name in names.items():
        number = 1
        numbered = name
        while as_field(numbered) in used:
            number += 1
            numbered = f"{name}.{number}"
        used.add(as_field(numbered))
        found[path] = numbered
    return found
