"""What clients ask for, as options of recognition; whatever they write, no file is opened by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from fun_asr.errors import ConfigError
from fun_asr.options import TranscriptionOptions
from fun_asr.server.errors import Refused
from fun_asr.text.hotwords import Hotword, checked_hotwords
from fun_asr.text.languages import language_code, unknown_language

__all__ = ["with_hotwords", "with_language", "with_prompt"]

MOST_PROMPT_CHARACTERS = 4000
MOST_WORDS = 5  # of a name or term in a list of them
_BETWEEN = re.compile(r"[,;，；、\n]")
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？")

Check = Callable[[TranscriptionOptions], TranscriptionOptions]


def with_language(options: TranscriptionOptions, language: str | None) -> TranscriptionOptions:
    """The options for a language that a client names; what it leaves empty is detected.

    Raises:
        Refused: for what is no language.
    """
    if not language or language == "auto":
        return options
    code = language_code(language[:100])
    if code is None:
        raise Refused(400, unknown_language(language[:100]), "language")
    return replace(options, language=code, languages=())


def with_hotwords(options: TranscriptionOptions, phrases: list[str | tuple[str, float]]) -> TranscriptionOptions:
    """The options with phrases to prefer.

    Raises:
        Refused: for one that cannot be used.
    """
    try:
        found = checked_hotwords(phrases)
    except ConfigError as error:
        raise Refused(400, str(error), "hotwords") from None
    return replace(options, hotwords=(*options.hotwords, *found)) if found else options


def with_prompt(options: TranscriptionOptions, prompt: str, check: Check) -> TranscriptionOptions:
    """The options for a prompt: a list of terms is hotwords, anything else what was said before, if the model can.

    Arguments:
        check: raises ConfigError for options that the model cannot follow.

    Raises:
        Refused: for one that is too long.
    """
    if len(prompt) > MOST_PROMPT_CHARACTERS:
        raise Refused(400, f"the prompt has more than {MOST_PROMPT_CHARACTERS} characters", "prompt")
    if not prompt.strip():
        return options
    terms = _terms(prompt)
    tries = [replace(options, initial_prompt=prompt)]
    if terms:
        tries.insert(0, replace(options, hotwords=(*options.hotwords, *terms)))
    for one in tries:
        try:
            return check(one)
        except ConfigError:
            # A hint that cannot be followed is no reason to refuse a recording.
            continue
    return options


def _terms(prompt: str) -> tuple[Hotword, ...]:
    """The phrases of a prompt that is a list of them; none of one that is not."""
    parts = [part.strip() for part in _BETWEEN.split(prompt) if part.strip()]
    if prompt.strip().endswith(_SENTENCE_ENDS) or any(len(part.split()) > MOST_WORDS for part in parts):
        return ()
    try:
        return checked_hotwords(parts)
    except ConfigError:
        return ()
