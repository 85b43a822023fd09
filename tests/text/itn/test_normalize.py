"""Spans of words, text around numbers, and numbers at random."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from num2words import num2words

from fun_asr.text.itn import inverse_normalize, inverse_normalize_words

VOCABULARY = """
    one two five nine ten twelve twenty thirty ninety hundred thousand million zero oh point and a half quarter to past
    first second third fifth twentieth thirds may march june of the at in minus percent dollars cents pounds o'clock p m
    b c five-year-old twenty-five dot com version chapter plus double eighties nineteen o kilometers feet doctor smith
    May Twenty-five Dollars. one, five. (two cats e a i u s k d minutes year old miles per hour slash saint junior
    Monday monday star www page and, decimal lakh crore rupees minus plus niner main street cost costs each plus equals
    half quarters winks cents six four eleven eight sixteen through until double triple is my
"""
WORDS = st.sampled_from(VOCABULARY.split())


@pytest.mark.parametrize(
    ("spoken", "tokens"),
    [
        ("twenty five", [("25", (0, 2))]),
        ("it is twenty five dollars now", [("it", (0, 1)), ("is", (1, 2)), ("$25", (2, 5)), ("now", (5, 6))]),
        ("five million dollars", [("$5", (0, 1)), ("million", (1, 3))]),
        ("may second, twenty twenty one", [("May", (0, 1)), ("2nd,", (1, 2)), ("2021", (2, 5))]),
        ("ten kilometers.", [("10", (0, 1)), ("km.", (1, 2))]),
        ("three thirty p m", [("3:30", (0, 2)), ("p.m.", (2, 4))]),
        ("two and a half", [("2", (0, 1)), ("1/2", (1, 4))]),
        ("a forty-five-year-old man", [("a", (0, 1)), ("45-year-old", (1, 2)), ("man", (2, 3))]),
        ("(twenty-five)", [("(25)", (0, 1))]),
        ("no one", [("no", (0, 1)), ("one", (1, 2))]),
    ],
)
def test_each_token_names_its_words(spoken: str, tokens: list[tuple[str, tuple[int, int]]]) -> None:
    assert inverse_normalize_words(spoken.split()) == tokens


def test_chinese_words_share_a_token_where_a_number_crosses_them() -> None:
    tokens = inverse_normalize_words(["我", "有", "二十", "五", "个"], "zh")
    assert tokens == [("我", (0, 1)), ("有", (1, 2)), ("25", (2, 4)), ("个", (4, 5))]


@given(st.lists(WORDS, max_size=9))
@settings(max_examples=250, deadline=None)
def test_spans_follow_each_other_and_a_second_pass_changes_nothing(words: list[str]) -> None:
    tokens = inverse_normalize_words(words)
    assert [start for _, (start, _) in tokens] == [0, *(end for _, (_, end) in tokens)][: len(tokens)]
    assert all(start < end for _, (start, end) in tokens)
    assert (tokens[-1][1][1] if tokens else 0) == len(words)
    text = inverse_normalize(" ".join(words))
    assert text == " ".join(token for token, _ in tokens)
    assert inverse_normalize(text) == text


@given(st.integers(10, 10**15))
@settings(max_examples=150, deadline=None)
def test_cardinals_come_back_from_words(value: int) -> None:
    spoken = num2words(value)
    written = inverse_normalize(f"exactly {spoken} of them").removeprefix("exactly ").removesuffix(" of them")
    digits, _, scale = written.partition(" ")
    scales = {"": 1, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}
    assert int(digits.replace(",", "")) * scales[scale] == value
    assert (
        inverse_normalize(f"exactly {spoken.replace('-', ' ').replace(',', '')} of them")
        == f"exactly {written} of them"
    )


@given(st.integers(10, 10**5).filter(lambda value: value % 100 or value > 999))
@settings(max_examples=100, deadline=None)
def test_ordinals_come_back_from_words(value: int) -> None:
    written = inverse_normalize(f"the {num2words(value, to='ordinal')} visitor")
    assert written == f"the {num2words(value, to='ordinal_num').replace(str(value), f'{value:,}')} visitor"


@given(st.integers(1100, 2099).filter(lambda year: year % 100))
@settings(max_examples=100, deadline=None)
def test_years_come_back_from_words(year: int) -> None:
    assert inverse_normalize(f"it was built in {num2words(year, to='year')}.") == f"it was built in {year}."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "two  spaces\tand\n\nlines \n",
        "На улице двадцать пять человек",
        "- one -",
        "--",
        "…",
        "“Quoted,” she said—no one heard.",
    ],
)
def test_other_text_and_white_space_stay(text: str) -> None:
    assert inverse_normalize(text) == text


def test_white_space_around_a_number_stays() -> None:
    assert inverse_normalize("  twenty five  cats\nand thirty dogs\n") == "  25  cats\nand 30 dogs\n"


@pytest.mark.parametrize("language", ["de", None])
def test_languages_without_rules_stay(language: str | None) -> None:
    assert inverse_normalize("twenty five", language) == "twenty five"
    assert inverse_normalize_words(["twenty", "five"], language) == [("twenty", (0, 1)), ("five", (1, 2))]


def test_the_import_needs_nothing_beyond_python() -> None:
    code = (
        "import sys, fun_asr.text.itn as itn; itn.inverse_normalize('twenty');"
        "print({'torch', 'numpy'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
