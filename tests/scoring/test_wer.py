"""Error rates against jiwer, against a plain dynamic programme, and against Kaldi's definition."""

import random
import unicodedata
from collections.abc import Sequence

import jiwer
import pytest

from fun_asr.errors import ScoringError
from fun_asr.scoring.utterance import Utterance, match_ids
from fun_asr.scoring.wer import Counts, Score, Unit, add_up, confusions, score
from fun_asr.text.normalize import NormalizerName, get_normalizer


def utterances(*texts: str) -> dict[str, Utterance]:
    return {str(n): Utterance(id=str(n), text=text) for n, text in enumerate(texts)}


def score_texts(references: Sequence[str], hypotheses: Sequence[str], **options: object) -> Score:
    return score(utterances(*references), utterances(*hypotheses), **options)  # type: ignore[arg-type]


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The textbook's recurrence (Wagner and Fischer, 1974), in whole numbers."""
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, start=1):
        before, row = row, [i]
        for j, right in enumerate(hypothesis, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right)))
    return row[-1]


def random_pairs(number: int) -> tuple[list[str], list[str]]:
    rng = random.Random(0)
    sides = [[" ".join(rng.choices("abcdef", k=rng.randrange(low, 9))) for _ in range(number)] for low in (1, 0)]
    return sides[0], sides[1]


def test_ten_thousand_pairs_against_jiwer_and_a_plain_recurrence() -> None:
    references, hypotheses = random_pairs(10_000)
    scored = score_texts(references, hypotheses)
    for reference, hypothesis, utterance in zip(references, hypotheses, scored.utterances, strict=True):
        left, right, counts = reference.split(), hypothesis.split(), utterance.counts
        assert counts.errors == edit_distance(left, right)
        assert (counts.reference, counts.hypothesis) == (len(left), len(right))
        pairs = list(utterance.pairs())
        assert [token for token, _ in pairs if token is not None] == left
        assert [token for _, token in pairs if token is not None] == right
        assert counts.hits == sum(a == b for a, b in pairs)
        assert counts.substitutions == sum(None not in pair and pair[0] != pair[1] for pair in pairs)
    total, expected = add_up(scored.utterances), jiwer.process_words(references, hypotheses)
    counts = total.counts
    assert counts == Counts(expected.hits, expected.substitutions, expected.deletions, expected.insertions)
    assert counts.error_rate == expected.wer
    assert counts.match_error_rate == expected.mer
    assert counts.information_lost == pytest.approx(expected.wil)
    assert total.character_error_rate == jiwer.cer(references, hypotheses)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("a b c", "a b c", Counts(3, 0, 0, 0)),
        ("a b c", "a c", Counts(2, 0, 1, 0)),
        ("a b c", "a x c", Counts(2, 1, 0, 0)),
        ("a b c", "a b x c", Counts(3, 0, 0, 1)),
        ("a b c", "", Counts(0, 0, 3, 0)),
        ("a b c d e", "x a b c d", Counts(4, 0, 1, 1)),
    ],
)
def test_kaldi_counts(reference: str, hypothesis: str, counts: Counts) -> None:
    assert score_texts([reference], [hypothesis]).utterances[0].counts == counts


def test_empty_reference_words_are_insertions() -> None:
    total = add_up(score_texts(["a b", ""], ["a b", "x y"]).utterances)
    assert total.counts == Counts(2, 0, 0, 2)
    assert (total.counts.error_rate, total.sentence_error_rate) == (1.0, 0.5)


def test_no_reference_words_at_all_cannot_be_scored() -> None:
    with pytest.raises(ScoringError, match="no reference has a word"):
        score_texts([""], ["x"])
    with pytest.raises(ScoringError, match="after normalisation"):
        score_texts(["um"], ["x"], normalize=get_normalizer("english"))


def test_a_missing_hypothesis_is_deletions_or_ignored() -> None:
    references, hypotheses = utterances("a b", "c d e"), utterances("a b")
    counted = score(references, hypotheses)
    assert add_up(counted.utterances).counts == Counts(2, 0, 3, 0)
    assert (counted.missing, counted.partial, counted.utterances[1].hypothesis) == (("1",), False, None)
    ignored = score(references, hypotheses, ignore_missing=True)
    assert add_up(ignored.utterances).counts == Counts(2, 0, 0, 0)
    assert (ignored.missing, ignored.partial, len(ignored.utterances)) == (("1",), True, 1)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("你好世界", "你好 世间", Counts(3, 1, 0, 0)),
        ("東京タワー", "東京タワ", Counts(4, 0, 1, 0)),
        ("สวัสดี", "สวัสดี", Counts(6, 0, 0, 0)),
        ("我的iPhone手机很好", "我的iPhone手机很好", Counts(12, 0, 0, 0)),
        ("안녕 세계", "안녕 세상", Counts(1, 1, 0, 0)),
    ],
)
def test_languages_without_spaces_are_counted_in_characters(reference: str, hypothesis: str, counts: Counts) -> None:
    scored = score_texts([reference], [hypothesis])
    assert scored.utterances[0].counts == counts
    assert scored.unit == ("words" if " " in reference else "characters")


def test_units() -> None:
    references, hypotheses = ["你好", "good day"], ["你好", "good dye"]
    assert score_texts(references, hypotheses).unit == "mixed"
    words = score_texts(references, hypotheses, unit="words")
    assert (words.unit, add_up(words.utterances).counts) == ("words", Counts(2, 1, 0, 0))
    characters = score_texts(references[1:], hypotheses[1:], unit="characters")
    assert add_up(characters.utterances).counts.error_rate == jiwer.cer(references[1], hypotheses[1])


def test_confusions() -> None:
    found = confusions(score_texts(["a b c", "a b"], ["x b c", "x b e"]).utterances)
    assert found.substitutions == {("a", "x"): 2}
    assert found.insertions == {"e": 1}
    assert not found.deletions


@pytest.mark.parametrize(
    ("references", "hypotheses", "matched"),
    [
        (["a", "b"], ["b", "c"], {"b": "b"}),
        (["cv/1", "libri/1"], ["/data/dev/cv/1", "/data/dev/libri/1"], {"/data/dev/cv/1": "cv/1",
                                                                        "/data/dev/libri/1": "libri/1"}),
        (["/data/cv/1"], ["1"], {"1": "/data/cv/1"}),
        (["a/1"], ["b/1"], {}),
        (["a/1", "b/1"], ["1"], {}),
        (["1"], ["a/1", "b/1"], {}),
        (["1"], ["1", "a/1"], {"1": "1"}),
        (["x/talk", "y/talk"], ["/d/x/talk", "/d/y/talk"], {"/d/x/talk": "x/talk", "/d/y/talk": "y/talk"}),
        (["talk", "x/talk"], ["in/talk", "x/talk"], {"in/talk": "talk", "x/talk": "x/talk"}),
        (["my talk"], ["x/my_talk"], {"x/my_talk": "my talk"}),
        (["caf\u00e9"], ["cafe\u0301"], {"cafe\u0301": "caf\u00e9"}),
        (["talk"], ["talk.wav"], {"talk.wav": "talk"}),
        (["talk"], ["talk.wav", "talk.mp3"], {}),
        (["../a/1"], ["x/a/1"], {"x/a/1": "../a/1"}),
    ],
)  # fmt: skip
def test_ids_match_where_one_is_the_end_of_exactly_one_other(
    references: list[str], hypotheses: list[str], matched: dict[str, str]
) -> None:
    assert match_ids(references, hypotheses) == matched


@pytest.mark.parametrize("normalizer", ["none", "basic", "basic_marks", "english"])
@pytest.mark.parametrize("unit", ["words", "characters"])
def test_letters_with_accents_are_one_composed_or_not(normalizer: NormalizerName, unit: Unit) -> None:
    texts = ["café déjà vu", "Ångström Tiếng Việt", "한국어"]
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    decomposed = [unicodedata.normalize("NFD", text) for text in texts]
    assert composed != decomposed
    normalize = get_normalizer(normalizer)
    for sides in ((composed, decomposed), (decomposed, composed)):
        total = add_up(score_texts(*sides, normalize=normalize, unit=unit).utterances)
        assert total.counts.errors == total.character_errors == 0
        assert (
            total.counts.reference
            == add_up(score_texts(composed, composed, normalize=normalize, unit=unit).utterances).counts.reference
        )


def test_where_all_references_are_empty_insertions_are_counted() -> None:
    references, hypotheses = ["", ""], ["a b", "c"]
    with pytest.raises(ScoringError, match="no reference has a word"):
        score_texts(references, hypotheses)
    scored = score_texts(references, hypotheses, empty=True)
    total = add_up(scored.utterances)
    expected = jiwer.process_words(references, hypotheses)
    assert total.counts == Counts(expected.hits, expected.substitutions, expected.deletions, expected.insertions)
    assert (total.counts, total.counts.error_rate) == (Counts(0, 0, 0, 3), None)
    assert (total.wrong_utterances, total.character_errors) == (2, 4)


def test_hindi_is_not_cut_at_its_vowels() -> None:
    reference, hypothesis = "मैं हिन्दी बोलता हूँ", "मैं हिन्दी बोलती हूँ"
    counts = {
        name: add_up(score_texts([reference], [hypothesis], normalize=get_normalizer(name)).utterances).counts
        for name in ("basic", "basic_marks")
    }
    expected = jiwer.process_words(reference, hypothesis)
    assert counts["basic_marks"] == Counts(3, 1, 0, 0)
    assert (expected.hits, expected.substitutions) == (3, 1)
    assert counts["basic"].errors == 0, "Whisper's drops what differs"
