"""Written forms of what people say: lists written before the rules, with the failing lines marked, not removed."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from fun_asr.text.itn import LANGUAGES, inverse_normalize, inverse_normalize_words

LISTS = Path(__file__).parents[2] / "data" / "itn"


def cases(name: str) -> list[dict[str, str]]:
    with open(LISTS / f"{name}.tsv", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("language", LANGUAGES)
def test_exactly_the_marked_cases_fail_and_at_most_one_in_twenty(language: str) -> None:
    listed = cases(language)
    wrong = {case["spoken"] for case in listed if inverse_normalize(case["spoken"], language) != case["written"]}
    assert wrong == {case["spoken"] for case in listed if case["fails"]}
    assert len(wrong) <= 0.05 * len(listed)


def test_each_choice_is_written_in_one_of_its_accepted_forms() -> None:
    """Where editors differ, `written` lists what is right with a bar between the forms."""
    listed = cases("en_choices")
    wrong = {case["spoken"] for case in listed if inverse_normalize(case["spoken"]) not in case["written"].split("|")}
    assert wrong == {case["spoken"] for case in listed if case["fails"]}


def test_each_kind_of_choice_has_ten_cases() -> None:
    assert min(Counter(case["class"] for case in cases("en_choices")).values()) >= 10


def test_english_has_thirty_cases_a_class() -> None:
    assert min(Counter(case["class"] for case in cases("en")).values()) >= 30


@pytest.mark.parametrize("name", [*LANGUAGES, "en_choices"])
def test_a_second_pass_changes_nothing(name: str) -> None:
    language = name.removesuffix("_choices")
    for case in cases(name):
        once = inverse_normalize(case["spoken"], language)
        assert inverse_normalize(once, language) == once


@pytest.mark.parametrize("name", [*LANGUAGES, "en_choices"])
def test_words_and_text_are_written_alike(name: str) -> None:
    language = name.removesuffix("_choices")
    separator = " " if language == "en" else ""
    for case in cases(name):
        words = case["spoken"].split() if language == "en" else list(case["spoken"])
        tokens = inverse_normalize_words(words, language)
        assert separator.join(token for token, _ in tokens) == inverse_normalize(case["spoken"], language)


def test_sentences_without_numbers_stay() -> None:
    sentences = (LISTS / "unchanged.txt").read_text(encoding="utf-8").splitlines()
    assert len(sentences) >= 100
    assert [sentence for sentence in sentences if inverse_normalize(sentence) != sentence] == []
