"""Error rates of texts in memory, without files and ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from fun_asr.errors import ConfigError
from fun_asr.scoring.bootstrap import Interval, interval, resampled_rates
from fun_asr.scoring.utterance import Utterance
from fun_asr.scoring.wer import Counts, Score, Unit, add_up, score
from fun_asr.text.normalize import NORMALIZERS, Normalizer, NormalizerName, get_normalizer

__all__ = ["WordErrorRate", "error_rate_interval", "score_texts", "wer"]


@dataclass(frozen=True, kw_only=True)
class WordErrorRate(Counts):
    """How far hypotheses are from their references, in words, or characters in scripts without spaces."""

    character_error_rate: float
    sentence_error_rate: float

    @property
    def error_rate(self) -> float:
        """WER: substitutions, deletions and insertions by the length of the references."""
        return self.errors / self.reference


def wer(
    references: str | Sequence[str],
    hypotheses: str | Sequence[str],
    *,
    normalizer: NormalizerName = "none",
    unit: Unit = "auto",
) -> WordErrorRate:
    """The word error rate of hypotheses, as `fun-asr wer` counts it.

    Arguments:
        references: what was said: a text, or one an utterance.
        hypotheses: what was written of each, in the same order.
        normalizer: "none", or Whisper's "basic" or "english", or "basic_marks"; applied to both sides.
        unit: "words", "characters", or "auto", which counts characters where a reference is written without spaces.

    Raises:
        ConfigError: when the normaliser is unknown.
        ScoringError: when no reference has a word.
        ValueError: when there are more of one side than of the other.

    >>> found = wer(["the cat sat", "on the mat"], ["The cat sits.", "on the mat"], normalizer="english")
    >>> found.substitutions, found.reference, round(found.error_rate, 3)
    (1, 6, 0.167)
    """
    if normalizer not in NORMALIZERS:
        raise ConfigError(f"normalizer {normalizer!r} is unknown; use {', '.join(NORMALIZERS)}")
    left = [references] if isinstance(references, str) else references
    right = [hypotheses] if isinstance(hypotheses, str) else hypotheses
    total = add_up(score_texts(left, right, normalize=get_normalizer(normalizer), unit=unit).utterances)
    return WordErrorRate(
        **dataclasses.asdict(total.counts),
        character_error_rate=total.character_error_rate or 0.0,
        sentence_error_rate=total.sentence_error_rate,
    )


def score_texts(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    normalize: Normalizer | None = None,
    unit: Unit = "auto",
) -> Score:
    """`score` for texts that belong together by their places.

    Raises:
        ScoringError: when no reference has a word.
        ValueError: when there are more of one side than of the other.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, but {len(hypotheses)} hypotheses")
    left, right = (
        {str(place): Utterance(id=str(place), text=text) for place, text in enumerate(texts)}
        for texts in (references, hypotheses)
    )
    return score(left, right, normalize=normalize, unit=unit)


def error_rate_interval(scored: Score, *, replicates: int = 1000, seed: int = 0) -> Interval | None:
    """The 95 % confidence interval of an error rate, over utterances; None of fewer than two."""
    counts = [utterance.counts for utterance in scored.utterances]
    rates = resampled_rates(
        [[count.errors for count in counts]],
        [[count.reference for count in counts]],
        None,
        replicates=replicates,
        seed=seed,
    )
    return None if rates is None else interval(rates[0])
