"""What is written of a segment on its way into the transcript: its words, then their times, less what was invented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.segment import Span
from fun_asr.decoding.confidence import word_confidence
from fun_asr.decoding.words import AlignedWord, WrittenWord, retime
from fun_asr.punctuation import Punctuator
from fun_asr.text.itn import inverse_normalize
from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, Word

__all__ = ["Draft"]


@dataclass(frozen=True)
class Draft:
    """What is written of one segment."""

    words: list[WrittenWord]
    _: KW_ONLY
    score: float
    """Mean log-probability of the hypothesis."""
    language: str | None = None
    """Code, given or detected."""
    language_probability: float | None = None
    """None where the language was given or not detected."""
    language_evidence: Mapping[str, float] | None = None
    """What the segment alone says of its language: the probability of each; None where it was not asked."""
    looped: bool = False
    """Whether the decoder got caught in a loop."""
    timed: list[AlignedWord] | None = None
    """The same in time: words, or characters where the language puts no spaces; None where no times are known."""
    cut_words: int = 0
    """Words left out because CTC does not hear them."""

    @property
    def text(self) -> str:
        """The words as one line."""
        return " ".join(word.text for word in self.words)

    def with_times(self, timed: list[AlignedWord], kept: int) -> Draft:
        """The draft with its words' places, less what CTC does not hear.

        Arguments:
            timed: the words in their places.
            kept: how many of them stay.
        """
        return replace(self, words=self.words[:kept], timed=timed[:kept], cut_words=len(timed) - kept)

    def formatted(self, language: str | None, punctuator: Punctuator | None, *, itn: bool) -> Draft:
        """The draft as people write it; each word's times stay with what it became.

        Arguments:
            language: code of the words' language.
            punctuator: makes sentences of bare words; None leaves them.
            itn: write numbers and the like in digits.
        """
        words = [word.text for word in self.words]
        if punctuator is not None:
            timed = self.timed or []
            pauses = [(after.start - word.end) / SAMPLE_RATE for word, after in pairwise(timed)]
            words = punctuator.punctuate(words, [*pauses, -1.0] if timed else None)
        text = " ".join(words)
        if itn:
            text = inverse_normalize(text, language)
        if text == self.text:
            return self
        return replace(
            self,
            words=[WrittenWord(word) for word in text.split()],
            timed=None
            if self.timed is None
            else retime(self.timed, text, spaced=language not in WRITTEN_WITHOUT_SPACES),
        )

    def words_from(self, start: int, span: Span, rate: int) -> tuple[Word, ...]:
        """The words with times in seconds.

        Arguments:
            start: sample of the recording from which the words' places count.
            span: of the segment; no word lies outside.
            rate: samples a second.
        """

        def seconds(place: int) -> float:
            return min(max(start + place, span.start), span.end) / rate

        return tuple(
            Word(
                text=word.text,
                start=seconds(word.start),
                end=seconds(word.end),
                confidence=word_confidence(word),
            )
            for word in self.timed or ()
        )
