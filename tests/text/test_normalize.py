"""The normalisers: exactly what the library does, text for text, though most words are given to it once."""

import random

import pytest
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from fun_asr.text.normalize import NormalizerName, get_normalizer

# Words with which rules of the library start, end or join their neighbours.
WORDS = [
    word
    for line in (
        "cat sat, dog. colour grey 'tis don don't 't 's uh uh's um, 5 3.5 $ $5 % 5% 1,000 st th nd s 5th mr.",
        "Mrs been he's got gone done can't n't a half ¢ ¢7 €3 £ - -- / é naïve (x y) [z] <w q Q cause gen.",
        "half-past 10:30 1950s it's they've q's 10, 5. minus -3 +7 and and ’ it’s 0 00 1 1s … !? and a half",
    )
    for word in line.split()
]


LIBRARY = {"basic": BasicTextNormalizer(), "english": EnglishTextNormalizer()}


@pytest.mark.parametrize("name", LIBRARY)
def test_equal_to_the_library(name: NormalizerName) -> None:
    library = LIBRARY[name]
    rng = random.Random(0)
    words = [*WORDS, *sorted(EnglishTextNormalizer().standardize_numbers.words)]
    normalize = get_normalizer(name)
    for _ in range(4000):
        text = " ".join(rng.choices(words, k=rng.randrange(1, 9)))
        # The library takes an apostrophe of print for a space.
        assert normalize(text) == " ".join(library(text.replace("’", "'")).split()), text


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("He paid TWENTY-FIVE dollars.", "he paid $25"),
        ("Mr. Smith's colour won't fade", "mister smith is color will not fade"),
        ("Uh, [noise] the (laughs) end", "the end"),
        ("", ""),
    ],
)
def test_english(text: str, normal: str) -> None:
    assert get_normalizer("english")(text) == normal


def test_none_keeps_all_but_spaces() -> None:
    assert get_normalizer("none")("  The  Cat\tsat. ") == "The Cat sat."


# Accents and primes are apostrophes between letters alone.
@pytest.mark.parametrize(
    ("text", "apostrophes"),
    [
        ("it's", "’‘ʼ＇´`′"),
        ("they don't know what I'm doing, y'all", "’‘ʼ＇´`′"),
        ("the dogs' bone", "’‘ʼ＇"),
        ("'tis Smith's (the's)", "’‘ʼ＇"),
    ],
)
def test_an_apostrophe_is_one_however_it_is_written(text: str, apostrophes: str) -> None:
    expected = " ".join(LIBRARY["english"](text).split())
    for apostrophe in apostrophes:
        written = text.replace("'", apostrophe)
        assert get_normalizer("english")(written) == expected
        assert get_normalizer("basic")(written) == get_normalizer("basic")(text)


@pytest.mark.parametrize(
    ("text", "whisper", "with_marks"),
    [
        ("हिन्दी में, नमस्ते!", "ह न द म नमस त", "हिन्दी में नमस्ते"),
        ("நன்றி.", "நன ற", "நன்றி"),
        ("สวัสดีครับ", "สว สด คร บ", "สวัสดีครับ"),
        ("Cafe\u0301 (noir) [x]", "café", "café"),
        ("क्\u200dष", "क \u200dष", "क्ष"),
        ("1\u20e3 a", "1 a", "1 a"),
    ],
)
def test_marks_are_kept_where_that_is_asked_for(text: str, whisper: str, with_marks: str) -> None:
    assert get_normalizer("basic")(text) == whisper
    assert get_normalizer("basic_marks")(text) == with_marks
