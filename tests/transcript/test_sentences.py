"""Blocks of speech cut into sentences, and what ends one."""

import dataclasses

import pytest

from fun_asr.transcript import Segment, Word
from fun_asr.transcript.marks import Ending, ending
from fun_asr.transcript.sentences import sentences
from fun_asr.transcript.words import cue_words


def block(text: str, *words: tuple[str, float, float], language: str = "en", spoken: str = "") -> Segment:
    return Segment(
        start=0.0,
        end=30.0,
        text=text,
        language=language,
        language_probability=0.75,
        score=-0.25,
        words=tuple(Word(text=word, start=start, end=end, confidence=0.5) for word, start, end in words),
        spoken=spoken or text,
    )


TIMED = block(
    "It is 5 dollars. Yes, really.",
    ("It", 1.0, 1.2), ("is", 1.2, 1.4), ("5", 1.5, 1.8), ("dollars", 1.8, 2.4), ("Yes", 2.6, 2.9), ("really", 3.0, 3.5),
    spoken="It is five dollars. Yes, really.",
)  # fmt: skip


def test_a_segment_a_sentence_with_its_words_and_spoken_form() -> None:
    first, second = sentences(TIMED)
    assert (first.text, first.start, first.end) == ("It is 5 dollars.", 1.0, 2.4)
    assert (second.text, second.start, second.end) == ("Yes, really.", 2.6, 3.5)
    assert [word.text for word in first.words] == ["It", "is", "5", "dollars"]
    assert [word.text for word in second.words] == ["Yes", "really"]
    assert (first.spoken, second.spoken) == ("It is five dollars.", "Yes, really.")
    assert (second.score, second.language_probability) == (-0.25, 0.75)


def test_no_word_is_said_outside_of_its_segment() -> None:
    # What the decoder left unwritten after the first word went to it, and so did the pause that follows.
    stretched = block("And also from us.", ("And", 3.1, 7.6), ("also", 7.6, 7.9), ("from", 8.0, 8.2), ("us", 8.2, 8.5))
    first, second = sentences(dataclasses.replace(stretched, pauses=((5.3, 7.1),)))
    assert [(word.text, word.start, word.end) for word in first.words] == [("And", 3.1, 5.3)]
    assert (first.start, first.end) == (3.1, 5.3)
    assert (second.words[0].start, second.start) == (7.6, 7.6)


def test_a_pause_of_more_than_a_second_cuts_a_sentence() -> None:
    late = dataclasses.replace(TIMED, words=(*TIMED.words[:5], dataclasses.replace(TIMED.words[5], start=4.0, end=4.5)))
    assert [segment.text for segment in sentences(late)] == ["It is 5 dollars.", "Yes,", "really."]
    assert len(sentences(late, pause_seconds=1.2)) == 2


def test_spoken_forms_follow_what_inverse_text_normalization_rewrote() -> None:
    parts = sentences(
        block(
            "Call 555-0199 on May 3rd. It costs $2.50. Bye.",
            spoken="Call five five five oh one nine nine on May third. It costs two dollars and fifty cents. Bye.",
        )
    )
    assert [part.spoken for part in parts] == [
        "Call five five five oh one nine nine on May third.",
        "It costs two dollars and fifty cents.",
        "Bye.",
    ]


def test_texts_joined_are_the_block_s() -> None:
    for text, language, space in (("A b. C d? E", "en", " "), ("今天。明天!后天", "zh", "")):
        found = sentences(block(text, language=language))
        assert len(found) == 3
        assert space.join(part.text for part in found) == text
        assert space.join(part.spoken for part in found) == text


def test_characters_with_times_keep_their_marks() -> None:
    """Of Japanese, every character is a word with times, marks too; a cue or sentence begins with no mark."""
    text = "「はい」。OK、 いいえ。"
    said = [character for character in text if character != " "]
    words = [(character, 0.2 * place, 0.2 * place + 0.2) for place, character in enumerate(said)]
    first, second = sentences(block(text, *words, language="ja"))
    assert (first.text, second.text) == ("「はい」。", "OK、 いいえ。")
    assert ["".join(word.text for word in part.words) for part in (first, second)] == ["「はい」。", "OK、いいえ。"]
    assert [word.text for word in cue_words(second)] == ["OK、", "い", "い", "え。"]
    assert (cue_words(second)[0].start, cue_words(second)[0].end) == pytest.approx((1.0, 1.6))


def test_nothing_said_is_no_sentence() -> None:
    assert sentences(block("")) == []


@pytest.mark.parametrize(
    ("word", "following", "language", "expected"),
    [
        ("home.", "Then", "en", Ending.SENTENCE),
        ("home.”", "“Then", "en", Ending.SENTENCE),
        ("“Why?”", "he", "en", Ending.NOTHING),
        ("Mr.", "Hyde", "en", Ending.NOTHING),
        ("J.", "Smith", "en", Ending.NOTHING),
        ("I.", "You", "en", Ending.SENTENCE),
        ("No.", "5", "en", Ending.NOTHING),
        ("No.", "Five", "en", Ending.SENTENCE),
        ("3.", "Mai", "de", Ending.NOTHING),
        ("3.", "May", "en", Ending.SENTENCE),
        ("1998.", "Danach", "de", Ending.SENTENCE),
        ("z.B.", "Berlin", "de", Ending.NOTHING),
        ("etc.", "and", "en", Ending.NOTHING),
        ("well,", "then", "en", Ending.CLAUSE),
        ("well", "– then", "en", Ending.CLAUSE),
        ("well", "then", "en", Ending.NOTHING),
        ("う。", "日", "ja", Ending.SENTENCE),
        ("う」。", "「日", "ja", Ending.SENTENCE),
        ("、", "日", "ja", Ending.CLAUSE),
        ("है।", "वह", "hi", Ending.SENTENCE),
        ("؟", "نعم", "ar", Ending.SENTENCE),
        ("τι;", "Ναι", "el", Ending.SENTENCE),
        ("what;", "Yes", "en", Ending.CLAUSE),
        ("end", None, "en", Ending.NOTHING),
    ],
)
def test_what_ends_a_sentence(word: str, following: str | None, language: str, expected: Ending) -> None:
    assert ending(word, following, language, spaced=language != "ja") is expected


def test_a_space_is_a_mark_where_words_have_none_between_them() -> None:
    assert ending("ครับ", "ผม", "th", spaced=True) is Ending.CLAUSE
    assert ending("ครับ", "ผม", "th", spaced=False) is Ending.NOTHING


def test_a_sentence_names_only_the_speakers_of_its_words() -> None:
    said = [("Hello", "0"), ("there.", "0"), ("Hi,", "1"), ("you.", "0")]
    words = tuple(
        Word(text=text, start=float(k), end=k + 0.9, confidence=None, speaker=speaker)
        for k, (text, speaker) in enumerate(said)
    )
    block = Segment(
        start=0.0, end=4.0, text="Hello there. Hi, you.", language="en", language_probability=None, score=None,
        words=words, tags={"speakers": "0,1", "event": "speech"},
    )  # fmt: skip
    found = sentences(block)
    assert [segment.tags for segment in found] == [
        {"speakers": "0", "event": "speech"}, {"speakers": "1,0", "event": "speech"},
    ]  # fmt: skip
    assert found[1].to_dict()["words"][0]["speaker"] == "1"
