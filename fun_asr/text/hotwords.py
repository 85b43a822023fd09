"""Hotwords as a user gives them: phrases, each with a weight, in a list or in a file."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fun_asr.errors import ConfigError
from fun_asr.text.encodings import decoded

__all__ = ["Hotword", "checked_hotwords", "parse_hotwords", "read_hotwords"]

MAX_PHRASE_CHARACTERS = 100
MAX_WEIGHT = 10.0
_SPECIAL_TOKEN = "<|"
# With which no phrase begins; TCP/IP is one.
_PATHS = ("/", "./", "../", "~/")


class Hotword(NamedTuple):
    """A phrase that is likelier to be said than the model knows."""

    phrase: str
    weight: float = 1.0
    """Multiplies the bonus of the others."""


def checked_hotwords(hotwords: Iterable[str | tuple[str, float]]) -> tuple[Hotword, ...]:
    """The phrases with single spaces, each once, with their weights; the last of the same phrase counts.

    Raises:
        ConfigError: for what is no list of phrases or of pairs, a phrase without a letter or digit, one of more than
            100 characters, one with a special token such as "<|en|>", or a weight that is not above 0 and at most 10.
    """
    if isinstance(hotwords, str | Mapping) or not isinstance(hotwords, Iterable):
        raise ConfigError(f"hotwords must be a list of phrases, got {_shortened(str(hotwords))}")
    found: dict[str, Hotword] = {}
    for item in hotwords:
        hotword = _hotword(item)
        # Composed, as models write letters with accents.
        phrase = " ".join(unicodedata.normalize("NFC", hotword.phrase).split())
        if _SPECIAL_TOKEN in phrase:
            raise ConfigError(f"hotword {_shortened(phrase)} has {_SPECIAL_TOKEN}, with which special tokens begin")
        if not any(character.isalnum() for character in phrase):
            raise ConfigError(f"hotword {_shortened(hotword.phrase)} has no letter or digit")
        if len(phrase) > MAX_PHRASE_CHARACTERS:
            raise ConfigError(
                f"hotword {_shortened(phrase)} has {len(phrase)} characters; at most {MAX_PHRASE_CHARACTERS} will do"
            )
        if not (math.isfinite(hotword.weight) and 0 < hotword.weight <= MAX_WEIGHT):
            raise ConfigError(
                f"hotword {_shortened(phrase)} has weight {hotword.weight:g}; "
                f"it must be above 0, at most {MAX_WEIGHT:g}"
            )
        found.pop(phrase, None)
        found[phrase] = Hotword(phrase, hotword.weight)
    return tuple(found.values())


def _hotword(item: object) -> Hotword:
    if isinstance(item, str):
        return Hotword(item)
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str):
        try:
            return Hotword(item[0], float(item[1]))
        except (TypeError, ValueError):
            raise ConfigError(f"hotword {_shortened(item[0])} has weight {item[1]!r}, which is not a number") from None
    raise ConfigError(f"a hotword is a phrase, or a pair of a phrase and its weight, not {_shortened(repr(item))}")


def parse_hotwords(argument: str) -> tuple[Hotword, ...]:
    """The hotwords of a command line: those of a file of that name, or else phrases with commas between them.

    Raises:
        ConfigError: as `checked_hotwords` and `read_hotwords`, and where there is none; for what looks like the name of
            a file that does not exist.
    """
    path = Path(argument)
    if _is_file(path):
        return read_hotwords(path)
    if "," not in argument and (argument.startswith(_PATHS) or path.suffix.lower() in (".txt", ".tsv", ".csv", ".lst")):
        raise ConfigError(f"{argument}: no file that can be read")
    hotwords = checked_hotwords(part for part in argument.split(",") if part.strip())
    if not hotwords:
        raise ConfigError("no hotwords given; write phrases with commas between them, or a file's name")
    return hotwords


def read_hotwords(path: Path) -> tuple[Hotword, ...]:
    """The hotwords of a file: UTF-8, a phrase a line, a tab and its weight where that is not 1.

    A byte order mark may say UTF-16. A line that starts with `#` is a comment.

    Raises:
        ConfigError: naming file and line, when it cannot be read or has a line that cannot be used, or no hotword.
    """
    try:
        lines = decoded(path.read_bytes()).splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text, as a list of hotwords must be") from None
    found: list[Hotword] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        phrase, _, weight = line.rstrip().partition("\t")
        try:
            found += checked_hotwords([Hotword(phrase, float(weight or 1))])
        except ConfigError as error:
            raise ConfigError(f"{path}:{number}: {error}") from None
        except ValueError:
            raise ConfigError(f"{path}:{number}: weight {_shortened(weight)} is not a number") from None
    if not found:
        raise ConfigError(f"{path}: has no hotwords; write one phrase a line")
    return checked_hotwords(found)


def _is_file(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # a long list of phrases is no name that a file can have
        return False


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
