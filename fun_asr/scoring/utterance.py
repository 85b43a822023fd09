"""What is scored: an utterance's text and what is known about it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fun_asr.audio.names import as_field, stem

__all__ = ["Utterance", "match_ids"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """A reference or a hypothesis."""

    id: str
    """Unique in its file."""
    text: str
    audio: str | None = None
    """Path of the recording."""
    duration: float | None = None
    """Seconds."""
    confidence: float | None = None
    """Of a hypothesis, in [0, 1]."""
    speaker: str | None = None
    corpus: str | None = None
    set: str | None = None
    """Name of the file or folder it is from, where several are scored."""
    language: str | None = None
    """Code or name."""


def match_ids(references: Iterable[str], hypotheses: Iterable[str]) -> Mapping[str, str]:
    """Which hypothesis belongs to which reference: that of the same id, or of the same recording.

    Ids that are paths may start at different folders: `cv/001` is `/data/dev/cv/001`, if it is the end of no other.
    Then `talk.wav` is `talk`. Spaces are the underscores that ctm and stm have in their place, and letters with accents
    are the same composed or not.

    Arguments:
        references: ids.
        hypotheses: ids.

    Returns:
        the reference's id by the hypothesis's, for the hypotheses that have one.
    """
    reference_ids, hypothesis_ids = dict.fromkeys(references), dict.fromkeys(hypotheses)
    matched = {name: name for name in hypothesis_ids if name in reference_ids}
    for written in (str, stem):
        taken = set(matched.values())
        left = [(_parts(written(name)), name) for name in reference_ids if name not in taken]
        right = [(_parts(written(name)), name) for name in hypothesis_ids if name not in matched]
        for short, long, reference_is_short in ((left, right, True), (right, left, False)):
            ends = _by_end(long, {len(parts) for parts, _ in short})
            for parts, name in short:
                candidates = ends.get(parts, [])
                if len(candidates) == 1:
                    reference, hypothesis = (name, candidates[0]) if reference_is_short else (candidates[0], name)
                    matched.setdefault(hypothesis, reference)
    return _one_to_one(matched)


def _parts(name: str) -> tuple[str, ...]:
    parts = unicodedata.normalize("NFC", name).split("/")
    return tuple(as_field(part) for part in parts if part not in ("", ".", ".."))


def _by_end(names: Iterable[tuple[tuple[str, ...], str]], lengths: Iterable[int]) -> dict[tuple[str, ...], list[str]]:
    ends: dict[tuple[str, ...], list[str]] = {}
    for length in lengths:
        for parts, name in names:
            if length <= len(parts):
                ends.setdefault(parts[len(parts) - length :], []).append(name)
    return ends


def _one_to_one(matched: Mapping[str, str]) -> Mapping[str, str]:
    """Without the hypotheses that are matched to one reference several times, unless one has its very id."""
    claims: dict[str, list[str]] = {}
    for hypothesis, reference in matched.items():
        claims.setdefault(reference, []).append(hypothesis)
    return {
        hypothesis: reference
        for reference, claimants in claims.items()
        for hypothesis in claimants
        if len(claimants) == 1 or hypothesis == reference
    }
