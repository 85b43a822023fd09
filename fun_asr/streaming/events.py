"""What a stream says."""

from __future__ import annotations

from dataclasses import dataclass

from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, Segment, Word

__all__ = ["Committed", "Final", "Partial", "StreamEvent"]


@dataclass(frozen=True, kw_only=True)
class Partial:
    """What is understood of the utterance so far; the next one may say otherwise after the committed words."""

    utterance: int
    """Its number, from 0."""
    start: float
    """Of the utterance, seconds of the stream."""
    committed: str
    """The words that stay."""
    tentative: str
    """Those after them."""
    language: str | None

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(part for part in (self.committed, self.tentative) if part)


@dataclass(frozen=True, kw_only=True)
class Committed:
    """Words that no later `Partial` or `Committed` of the utterance changes."""

    utterance: int
    words: tuple[Word, ...]
    """The new ones, times in seconds of the stream."""
    language: str | None


@dataclass(frozen=True, kw_only=True)
class Final:
    """An utterance that has ended, recognised once more as a whole and written as in a recording's transcript.

    Where the full search is surer of a word than the first impression was, it differs from the committed ones.
    """

    utterance: int
    start: float
    """Of the utterance, seconds of the stream."""
    end: float
    segments: tuple[Segment, ...]
    """Its sentences, with words and confidence, times in seconds of the stream; none where nobody spoke."""

    @property
    def text(self) -> str:
        """All of it."""
        spaced = not self.segments or self.segments[0].language not in WRITTEN_WITHOUT_SPACES
        return (" " if spaced else "").join(segment.text for segment in self.segments)


StreamEvent = Partial | Committed | Final
