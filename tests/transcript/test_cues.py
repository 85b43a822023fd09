"""Cues: where they end, how wide, how long and how fast they are."""

import dataclasses
import random
from itertools import pairwise

import pytest

from fun_asr.transcript import Segment, Transcript, Word
from fun_asr.transcript.cues import Cue, SubtitleOptions, columns, cues

Timed = tuple[str, float, float]


def timed(text: str, start: float = 0.0, speed: float = 15.0, gaps: dict[str, float] | None = None) -> list[Timed]:
    """Words said at `speed` characters a second; `gaps` are the seconds of pause after a word."""
    found = []
    for word in text.split():
        end = start + len(word) / speed
        found.append((word, start, end))
        start = end + 1 / speed + (gaps or {}).get(word, 0.0)
    return found


def spoken(words: list[Timed], language: str = "en") -> Transcript:
    segment = Segment(
        start=words[0][1],
        end=words[-1][2],
        text=" ".join(text for text, _, _ in words),
        language=language,
        language_probability=None,
        score=-0.1,
        words=tuple(Word(text=text, start=start, end=end, confidence=None) for text, start, end in words),
    )
    return Transcript(
        path="a.wav", duration=segment.end + 10, language=language, language_probability=None, segments=(segment,)
    )


def untimed(text: str, seconds: float, language: str, pauses: tuple[tuple[float, float], ...] = ()) -> Transcript:
    segment = Segment(
        start=0, end=seconds, text=text, language=language, language_probability=None, score=None, pauses=pauses
    )
    return Transcript(path="a.wav", duration=seconds, language=language, language_probability=None, segments=(segment,))


def lines(cue: Cue) -> list[str]:
    return [
        "".join((" " if place and word.spaced else "") + word.text for place, word in enumerate(line))
        for line in cue.lines
    ]


def texts(transcript: Transcript, **options: float | None) -> list[str]:
    return ["|".join(lines(cue)) for cue in cues(transcript, SubtitleOptions(**options))]  # type: ignore[arg-type]


def test_cues_end_with_sentences() -> None:
    text = "It rained all day in the hills. Nobody came to the house. We waited for them until nine."
    assert texts(spoken(timed(text))) == [
        "It rained all day in the hills.",
        "Nobody came to the house.",
        "We waited for them until nine.",
    ]


def test_a_sentence_too_long_for_a_cue_is_cut_at_its_clauses_and_pauses() -> None:
    text = (
        "The committee that had been asked to look into the matter during the summer "
        "published, after many weeks of silence, a report of nearly nine hundred pages on the bridge"
    )
    cut = texts(spoken(timed(text, gaps={"summer": 0.4, "silence,": 0.3})))
    assert [cue.split()[-1] for cue in cut] == ["summer", "silence,", "bridge"]


def test_lines_are_even_and_break_after_marks() -> None:
    assert texts(spoken(timed("Although the weather was bad, the boats went out to sea."))) == [
        "Although the weather was bad,|the boats went out to sea."
    ]
    (cue,) = texts(spoken(timed("nine words that have no mark at all between the two")))
    first, second = cue.split("|")
    assert abs(len(first) - len(second)) <= 6


def test_a_short_cue_is_one_line() -> None:
    assert texts(spoken(timed("Oh, there was nothing to be seen."))) == ["Oh, there was nothing to be seen."]


@pytest.mark.parametrize("gap", [1.05, 3.0])
def test_no_cue_goes_on_over_a_pause_of_more_than_a_second(gap: float) -> None:
    words = timed("We went home and then we slept.", gaps={"home": gap})
    assert texts(spoken(words)) == ["We went home", "and then we slept."]
    assert len(texts(spoken(timed("We went home and then we slept.", gaps={"home": 0.85})))) == 1
    assert len(texts(spoken(words), max_pause_seconds=1.2)) == (1 if gap < 1.2 else 2)


def test_a_slow_speaker_s_cues_are_shown_for_seven_seconds_at_most() -> None:
    found = cues(spoken(timed("word " * 40, speed=2.5)), SubtitleOptions())
    assert max(cue.end - cue.start for cue in found) <= 7.0
    (slow,) = cues(spoken([("Aaah", 0.0, 12.0)]), SubtitleOptions())
    assert slow.end == 7.0
    assert (
        max(cue.end - cue.start for cue in cues(spoken(timed("word " * 40)), SubtitleOptions(max_cue_seconds=3))) <= 3
    )


def test_a_short_word_stays_for_a_second_where_the_next_cue_leaves_room() -> None:
    alone = cues(spoken([("Yes.", 0.0, 0.3), ("No.", 5.0, 5.2)]), SubtitleOptions())
    assert [(cue.start, cue.end) for cue in alone] == [(0.0, 1.0), (5.0, 6.0)]
    # The next one comes too soon, after a pause that no cue goes over.
    soon = cues(
        spoken([("Go", 0.0, 0.2), ("Yes.", 0.8, 0.9), ("No.", 1.2, 1.6)]), SubtitleOptions(max_pause_seconds=0.2)
    )
    assert [(cue.start, cue.end) for cue in soon] == [(0.0, 0.8), (0.8, 1.2), (1.2, 2.2)]


def test_short_sentences_share_a_cue_that_would_flash_otherwise() -> None:
    assert texts(spoken([("Yes.", 0.0, 0.2), ("No.", 0.3, 0.5), ("Maybe.", 0.6, 1.2)])) == ["Yes. No. Maybe."]


def test_cues_stay_long_enough_to_be_read() -> None:
    fast = spoken([*timed("Forty characters are said in one second.", speed=40), *timed("Then.", start=4.0)])
    first, _ = cues(fast, SubtitleOptions())
    assert 40 / (first.end - first.start) == pytest.approx(21)
    slower, _ = cues(fast, SubtitleOptions(max_reading_speed=12))
    assert 40 / (slower.end - slower.start) == pytest.approx(12)


def test_two_columns_for_a_wide_character() -> None:
    assert (columns("naïve"), columns("nai\u0308ve"), columns("今天A。"), columns("ﾊﾝｶｸ")) == (5, 5, 7, 4)
    found = texts(untimed("今天天气很好我们一起去公园散步然后在湖边的小店里喝一杯热茶再回家", 12, "zh"))
    assert max(columns(line) for cue in found for line in cue.split("|")) <= 42
    assert "".join(found).replace("|", "") == "今天天气很好我们一起去公园散步然后在湖边的小店里喝一杯热茶再回家"
    narrow = texts(untimed("今天天气很好,我们去公园。", 8, "zh"), max_line_width=14, max_line_count=1)
    assert narrow == ["今天天气很好,", "我们去公园。"]


def test_japanese_lines_begin_with_no_small_kana() -> None:
    for width in range(4, 30):
        for cue in texts(
            untimed("ちょっとまってください、シャッターをきってから、コーヒーをのみましょう", 12, "ja"),
            max_line_width=width,
        ):
            assert not any(line[0] in "ょっャッーュ、。" for line in cue.split("|")), cue


def test_words_are_counted_where_asked() -> None:
    found = texts(spoken(timed("one two three four. five six seven")), max_words_per_line=3)
    assert "".join(cue + " " for cue in found).split() == ["one", "two", "three", "four.", "five", "six", "seven"]
    assert all(len(cue.split()) <= 3 and "|" not in cue for cue in found)


def test_one_line_where_asked() -> None:
    found = texts(spoken(timed("The boats went out to sea, though the wind had risen in the night.")), max_line_count=1)
    assert all("|" not in cue and columns(cue) <= 42 for cue in found)


def test_guessed_times_leave_out_pauses_and_put_marks_there() -> None:
    """Three sentences of unlike speed, two pauses: by characters alone the first would end within the second."""
    text = "Ja. Das haben wir gestern schon gesagt. Gut so."
    found = cues(untimed(text, 20, "de", ((0.0, 0.5), (1.5, 4.0), (6.0, 16.0), (17.5, 20.0))), SubtitleOptions())
    assert [(lines(cue)[0], cue.start, cue.end) for cue in found] == [
        ("Ja.", 0.5, 1.5),
        ("Das haben wir gestern schon gesagt.", 4.0, 6.0),
        ("Gut so.", 16.0, 17.5),
    ]


def test_words_that_reach_into_a_pause_end_before_it() -> None:
    """Cross-attention gives the last word all the time until the next; soft sounds at the edges of speech stay."""
    words = [("Es", 1.0, 2.4), ("war", 2.4, 2.6), ("so.", 2.6, 5.9), ("Ja.", 6.0, 6.4)]
    said = spoken(words, "de")
    heard = dataclasses.replace(said.segments[0], pauses=((0.0, 2.1), (3.1, 6.1)))
    found = cues(dataclasses.replace(said, segments=(heard,)), SubtitleOptions())
    assert [("|".join(lines(cue)), cue.start) for cue in found] == [("Es war so.", 2.1), ("Ja.", 6.0)]
    assert found[0].end == pytest.approx(3.1)


def test_a_pause_is_as_long_as_it_was_heard_though_soft_sounds_make_it_shorter() -> None:
    said = spoken([("Es", 1.0, 1.2), ("war", 1.3, 2.15), ("so", 2.95, 3.2), ("gut.", 3.3, 3.6)], "de")
    heard = dataclasses.replace(said.segments[0], pauses=((2.0, 3.1),))
    assert texts(said) == ["Es war so gut."]
    assert texts(dataclasses.replace(said, segments=(heard,))) == ["Es war", "so gut."]


def test_channels_are_cut_by_themselves() -> None:
    left = Segment(start=0, end=3, text="One here.", language="en", language_probability=None, score=0, channel=1)
    right = Segment(start=1, end=2, text="Two there.", language="en", language_probability=None, score=0, channel=2)
    both = Transcript(path="a.wav", duration=3, language="en", language_probability=None, segments=(left, right))
    assert [(cue.voice, cue.start, cue.end) for cue in cues(both, SubtitleOptions())] == [
        ("Channel 1", 0, 3),
        ("Channel 2", 1, 2),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_said_no_word_is_lost_and_no_limit_is_broken(seed: int) -> None:
    draw = random.Random(seed)
    words: list[Timed] = []
    now = 0.0
    for _ in range(150):
        word = "x" * draw.randint(1, 12) + draw.choice(["", "", "", ",", "."])
        end = now + draw.uniform(0.05, 0.8)
        words.append((word, now, end))
        now = end + draw.choice([0, 0, 0.05, 0.3, 0.9, 1.5])
    options = SubtitleOptions()
    found = cues(spoken(words), options)
    assert [word.text for cue in found for word in cue.words] == [text for text, _, _ in words]
    assert all(before.end <= after.start for before, after in pairwise(found))
    for cue in found:
        assert cue.start < cue.end <= cue.start + options.max_cue_seconds
        assert len(cue.lines) <= 2 and all(columns(line) <= 42 for line in lines(cue))
        assert all(after.start - before.end <= 1.0 for before, after in pairwise(cue.words))
