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
        assert normalize(text) == " ".join(library(text).split()), text


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
