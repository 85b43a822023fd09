"""What is written of a segment on its way into the transcript: its words, then their times, less what was invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding.confidence import word_confidence
from fun_asr.decoding.guard import supported_words
from fun_asr.decoding.words import TimedWord, WrittenWord, retime, time_words
from fun_asr.punctuation.punctuator import Punctuator
from fun_asr.text.itn import normalize
from fun_asr.text.tokenizer import CTCTokenizer
from fun_asr.transcript import Word

__all__ = ["Draft", "find_words"]


@dataclass
class Draft:
    """What is written of one segment."""

    words: list[WrittenWord]
    score: float
    """Mean log-probability of the hypothesis."""
    looped: bool = False
    """Whether the decoder got caught in a loop."""
    timed: list[TimedWord] | None = None
    """The same words; None where CTC does not know the language."""
    cut_words: int = 0
    """Words left out because CTC does not hear them."""

    @property
    def text(self) -> str:
        """The words as one line."""
        return " ".join(word.text for word in self.words)

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
            text = normalize(text, language)
        if text == self.text:
            return self
        return replace(
            self,
            words=[WrittenWord(word) for word in text.split()],
            timed=None if self.timed is None else retime(self.timed, text),
        )

    def words_from(self, start: int, rate: int) -> tuple[Word, ...]:
        """The words with times in seconds, for a segment that starts at sample `start` of `rate` a second."""
        return tuple(
            Word(
                text=word.text,
                start=(start + word.start) / rate,
                end=(start + word.end) / rate,
                confidence=word_confidence(word),
            )
            for word in self.timed or ()
        )


def find_words(
    drafts: Sequence[Draft],
    ctc_log_probs: Sequence[npt.NDArray[np.float32]],
    samples: Sequence[npt.NDArray[np.float32]],
    tokenizer: CTCTokenizer,
) -> None:
    """Give drafts in English their words in time, and cut what CTC does not hear.

    Arguments:
        drafts: of some segments; they are changed.
        ctc_log_probs: CTC log-probabilities of each segment, float32 `[J, C]` at 25 Hz.
        samples: mono 16 kHz audio of each segment, float32 `[samples]`.
        tokenizer: the CTC head's.
    """
    timed = time_words([draft.words for draft in drafts], ctc_log_probs, samples, tokenizer)
    for draft, words, log_probs in zip(drafts, timed, ctc_log_probs, strict=True):
        kept = supported_words(words, log_probs, tokenizer.blank)
        draft.cut_words = len(words) - kept
        draft.words, draft.timed = draft.words[:kept], words[:kept]
