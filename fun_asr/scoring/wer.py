"""Word and character error rates: alignment by jiwer, one result for each utterance."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jiwer
from rapidfuzz.distance import Levenshtein

from fun_asr.errors import ScoringError
from fun_asr.scoring.alternations import has_alternations, parse_alternations
from fun_asr.scoring.utterance import Utterance
from fun_asr.text.normalize import Normalizer, get_normalizer

__all__ = ["Confusions", "Counts", "Score", "Total", "Unit", "UtteranceScore", "add_up", "confusions", "score"]

Unit = Literal["auto", "words", "characters"]

# Scripts that put no space between words: Thai, Lao, Tibetan, Burmese, Khmer, CJK with kana.
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(f"[{_WITHOUT_SPACES}]")
_WORD = re.compile(rf"[^\W{_WITHOUT_SPACES}]+")
_AS_THEY_ARE = jiwer.Compose([])
_NEEDLESS_SPACE = re.compile(f"(?<=[{_WITHOUT_SPACES}]) | (?=[{_WITHOUT_SPACES}])")


@dataclass(frozen=True, slots=True)
class Counts:
    """What an alignment comes to, in words or characters."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference(self) -> int:
        """Length of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis(self) -> int:
        """Length of the hypothesis."""
        return self.hits + self.substitutions + self.insertions

    @property
    def error_rate(self) -> float | None:
        """Errors by the reference's length (WER, or CER in characters); None without a reference."""
        return self.errors / self.reference if self.reference else None

    @property
    def match_error_rate(self) -> float | None:
        """MER (Morris et al., 2004): errors by the alignment's length; None of nothing."""
        length = self.errors + self.hits
        return self.errors / length if length else None

    @property
    def information_lost(self) -> float | None:
        """WIL (Morris et al., 2004): 1 - hits² / (reference · hypothesis); None without a reference."""
        if not self.reference:
            return None
        return 1 - (self.hits / self.reference) * (self.hits / self.hypothesis if self.hypothesis else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceScore:
    """An utterance's alignment."""

    reference: Utterance
    hypothesis: Utterance | None
    """None where it is missing."""
    reference_tokens: list[str]
    """Normalised words, or characters."""
    hypothesis_tokens: list[str]
    alignment: list[jiwer.AlignmentChunk]
    counts: Counts
    in_characters: bool
    character_errors: int
    characters: int
    """Of the normalised reference, spaces included in scripts that write them."""

    def pairs(self) -> Iterator[tuple[str | None, str | None]]:
        """Tokens side by side: (reference, hypothesis), None on one side for an insertion or a deletion."""
        for chunk in self.alignment:
            left = self.reference_tokens[chunk.ref_start_idx : chunk.ref_end_idx]
            right = self.hypothesis_tokens[chunk.hyp_start_idx : chunk.hyp_end_idx]
            for position in range(max(len(left), len(right))):
                yield left[position] if left else None, right[position] if right else None


@dataclass(frozen=True, kw_only=True)
class Score:
    """What hypotheses come to against references."""

    utterances: tuple[UtteranceScore, ...]
    """In the references' order."""
    missing: tuple[str, ...]
    """Ids without a hypothesis: scored as deletions, or not among the utterances if they are ignored."""
    partial: bool
    """Whether missing hypotheses are ignored."""

    @property
    def unit(self) -> Literal["words", "characters", "mixed"]:
        """What is counted."""
        kinds = {utterance.in_characters for utterance in self.utterances}
        if kinds == {True}:
            return "characters"
        return "mixed" if True in kinds else "words"


@dataclass(frozen=True, kw_only=True)
class Total:
    """Utterances added up."""

    counts: Counts
    character_errors: int
    characters: int
    utterances: int
    wrong_utterances: int
    """With at least one error."""

    @property
    def sentence_error_rate(self) -> float:
        """SER: wrong utterances by utterances."""
        return self.wrong_utterances / self.utterances

    @property
    def character_error_rate(self) -> float | None:
        """CER; None without a reference."""
        return self.character_errors / self.characters if self.characters else None


def add_up(utterances: Iterable[UtteranceScore]) -> Total:
    """The total of utterances."""
    hits = substitutions = deletions = insertions = errors = characters = number = wrong = 0
    for utterance in utterances:
        counts = utterance.counts
        hits += counts.hits
        substitutions += counts.substitutions
        deletions += counts.deletions
        insertions += counts.insertions
        errors += utterance.character_errors
        characters += utterance.characters
        number += 1
        wrong += counts.errors > 0
    return Total(
        counts=Counts(hits, substitutions, deletions, insertions),
        character_errors=errors,
        characters=characters,
        utterances=number,
        wrong_utterances=wrong,
    )


@dataclass(frozen=True)
class Confusions:
    """How often which token was wrong."""

    substitutions: Counter[tuple[str, str]]
    """By (reference, hypothesis)."""
    deletions: Counter[str]
    insertions: Counter[str]


def confusions(utterances: Iterable[UtteranceScore]) -> Confusions:
    """Count the errors of utterances by token."""
    found = Confusions(Counter(), Counter(), Counter())
    for utterance in utterances:
        if not utterance.counts.errors:
            continue
        for reference, hypothesis in utterance.pairs():
            if reference is None:
                found.insertions[hypothesis or ""] += 1
            elif hypothesis is None:
                found.deletions[reference] += 1
            elif reference != hypothesis:
                found.substitutions[reference, hypothesis] += 1
    return found


def score(
    references: Mapping[str, Utterance],
    hypotheses: Mapping[str, Utterance],
    *,
    normalize: Normalizer | None = None,
    unit: Unit = "auto",
    alternations: bool = False,
    ignore_missing: bool = False,
    empty: bool = False,
) -> Score:
    """Align hypotheses with references.

    Arguments:
        references: by id.
        hypotheses: by their reference's id; those of other ids are not looked at.
        normalize: applied to both sides; None changes nothing but the spaces between words.
        unit: `auto` counts characters where a reference is written without spaces (Chinese, Japanese, Thai, ...), and
            words elsewhere.
        alternations: whether braces and parentheses in references mean choices between words.
        ignore_missing: leave references without a hypothesis out, instead of counting them as deletions.
        empty: score references without a word even where there are no others: all is insertions, and no rate.

    Raises:
        ScoringError: when no reference has a word and they may not be empty, when there is nothing to score, or when
            choices are not well formed.
    """
    normalize = normalize or get_normalizer("none")
    scored = [name for name in references if name in hypotheses or not ignore_missing]
    problems: list[str] = []
    sides: list[_Sides] = []
    for name in scored:
        hypothesis = hypotheses.get(name)
        try:
            text = hypothesis.text if hypothesis else ""
            sides.append(_tokens(references[name].text, text, normalize, unit, alternations=alternations))
        except ValueError as error:
            problems.append(f"the reference of {name} {error}")
    if not problems and not (sides and empty) and not any(side.reference for side in sides):
        problems.append("no reference has a word" + " after normalisation" * any(u.text for u in references.values()))
    if problems:
        raise ScoringError(*problems)
    # jiwer is annotated for texts; with a transform that splits none, it takes tokens.
    left: Any = [side.reference for side in sides]
    right: Any = [side.hypothesis for side in sides]
    aligned = jiwer.process_words(left, right, _AS_THEY_ARE, _AS_THEY_ARE)
    return Score(
        utterances=tuple(
            _utterance_score(references[name], hypotheses.get(name), side, alignment)
            for name, side, alignment in zip(scored, sides, aligned.alignments, strict=True)
        ),
        missing=tuple(name for name in references if name not in hypotheses),
        partial=ignore_missing,
    )


@dataclass(frozen=True, slots=True)
class _Sides:
    reference: list[str]
    hypothesis: list[str]
    in_characters: bool
    skipped: int
    character_errors: int
    characters: int


def _tokens(reference: str, hypothesis: str, normalize: Normalizer, unit: Unit, *, alternations: bool) -> _Sides:
    # One letter is one, whether it is written with a combining accent or without.
    reference, hypothesis = (unicodedata.normalize("NFC", text) for text in (reference, hypothesis))
    right = normalize(hypothesis)
    in_characters = unit == "characters" or (unit == "auto" and _is_without_spaces(reference or hypothesis))
    skipped = 0
    if alternations and has_alternations(reference):
        split = _letters if in_characters else str.split
        network = parse_alternations(reference, lambda text: split(normalize(text)))
        hypothesis_tokens = split(right)
        choice = network.closest(hypothesis_tokens)
        reference_tokens, skipped = choice.tokens, choice.skipped
        separator = "" if in_characters else " "
        left, right = separator.join(reference_tokens), separator.join(hypothesis_tokens)
        left_characters, right_characters = _characters(left), _characters(right)
    else:
        left = normalize(reference)
        left_characters, right_characters = _characters(left), _characters(right)
        if in_characters:
            reference_tokens, hypothesis_tokens = list(left_characters), list(right_characters)
        else:
            reference_tokens, hypothesis_tokens = left.split(), right.split()
    return _Sides(
        reference_tokens,
        hypothesis_tokens,
        in_characters,
        skipped,
        Levenshtein.distance(left_characters, right_characters),
        len(left_characters),
    )


def _is_without_spaces(text: str) -> bool:
    """Whether the most of a text is in scripts that put no space between words."""
    characters = 0 if text.isascii() else len(_CHARACTER.findall(text))
    return bool(characters) and characters >= len(_WORD.findall(text))


def _characters(text: str) -> str:
    """The characters that are compared, a space between words being one in the scripts that write it."""
    return text if text.isascii() else _NEEDLESS_SPACE.sub("", text)


def _letters(text: str) -> list[str]:
    return list(text.replace(" ", ""))


def _utterance_score(
    reference: Utterance, hypothesis: Utterance | None, sides: _Sides, alignment: list[jiwer.AlignmentChunk]
) -> UtteranceScore:
    numbers = {"equal": sides.skipped, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in alignment:
        length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        numbers[chunk.type] += length
    return UtteranceScore(
        reference=reference,
        hypothesis=hypothesis,
        reference_tokens=sides.reference,
        hypothesis_tokens=sides.hypothesis,
        alignment=alignment,
        counts=Counts(numbers["equal"], numbers["substitute"], numbers["delete"], numbers["insert"]),
        in_characters=sides.in_characters,
        character_errors=sides.character_errors,
        characters=sides.characters,
    )
